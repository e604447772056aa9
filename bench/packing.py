"""How fast packed rows are planned and read, beside TRL's best-fit packing of the same documents.

    python bench/packing.py [--documents 50000] [--time 512] [--rows 16] [--pairs 5]

Documents have log-normal lengths (median 200 tokens, as short web text). Both packers get the same token
ids; TRL (`trl.pack_dataset`, strategy "bfd_split", if it is installed) writes packed rows into an Arrow
table, ours plans where every token goes. CPU time on one thread, arms interleaved, medians. The last line
is JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from hornbook.data.packing import PackedLoader
from hornbook.data.tokens import TokenFile, TokenWriter


def cpu_seconds(work):
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def trl_packer(ids, lengths, row):
    """A function that packs with TRL and returns the number of rows; None where TRL is not installed."""
    try:
        import pyarrow as pa
        from datasets import Dataset
        from trl import pack_dataset
    except ImportError:
        return None
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    column = pa.LargeListArray.from_arrays(offsets, ids.astype(np.int64))
    dataset = Dataset(pa.table({"input_ids": column})).with_format("arrow")

    def pack():
        packed = pack_dataset(
            dataset, row, "bfd_split", map_kwargs={"batch_size": len(lengths), "keep_in_memory": True}
        )

        return len(packed)

    return pack


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--time", type=int, default=512)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(5.3, 1.0, options.documents), 2, 20_000).astype(np.int64)
    ids = random.integers(0, 4096, lengths.sum(), dtype=np.uint16)
    ours, theirs, first, each = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        with TokenWriter(Path(folder, "tokens"), 4096) as writer:
            writer.write_many(ids, lengths)
        file = TokenFile.open(Path(folder, "tokens"))
        peer = trl_packer(ids, lengths, options.time)
        for _ in range(options.pairs):
            seconds, loader = cpu_seconds(lambda: PackedLoader([(file, 1.0)], options.rows, options.time, 0))
            ours.append(seconds)
            first.append(cpu_seconds(lambda ready=loader: ready.batch(0))[0])
            seconds, _ = cpu_seconds(lambda ready=loader: [ready.batch(step) for step in range(1, 201)])
            each.append(seconds / 200)
            if peer is not None:
                seconds, rows = cpu_seconds(peer)
                theirs.append(seconds)
    result = {
        "documents": options.documents,
        "tokens": int(lengths.sum()),
        "rows": options.rows,
        "time": options.time,
        "plan_seconds": statistics.median(ours),
        "first_batch_seconds": statistics.median(first),
        "batch_milliseconds": 1e3 * statistics.median(each),
        "tokens_per_second": options.rows * options.time / statistics.median(each),
        "fill": loader.fill,
        "rows_per_epoch": loader.rows_per_epoch[0],
    }
    if theirs:
        result["trl_pack_seconds"] = statistics.median(theirs)
        result["trl_rows"] = rows
        result["plan_and_first_batch_speedup"] = statistics.median(theirs) / (
            result["plan_seconds"] + result["first_batch_seconds"]
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
