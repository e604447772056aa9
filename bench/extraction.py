"""Main text of web pages beside trafilatura: precision, recall, F1 against clean articles, pages a second.

    python bench/extraction.py PAGES.jsonl.gz [--peer PYTHON]

PAGES: JSON lines with `html` and `article_body`. Scores are those of the article extraction benchmark of
Scrapinghub: runs of four words, as multisets, averaged over pages. `--peer` is a Python that has trafilatura
(the extractor of datatrove and of FineWeb). CPU seconds of one thread; the last line is JSON.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import time
from collections import Counter

from hornbook.data.html_text import html_text

_PEER = """
import gzip, json, sys, time
import trafilatura
pages = [json.loads(line)["html"] for line in gzip.open(sys.argv[1], "rt", encoding="utf-8", newline="\\n")]
trafilatura.extract(pages[0])
begun, texts = time.process_time(), []
for page in pages:
    text = trafilatura.extract(page, favor_precision=True, include_comments=False, deduplicate=True)
    texts.append(text or "")
seconds = time.process_time() - begun
json.dump({"seconds": seconds, "texts": texts, "version": trafilatura.__version__}, sys.stdout)
"""


def shingles(text: str, n: int = 4) -> Counter:
    words = re.findall(r"\w+", text)
    if len(words) < n:
        return Counter([tuple(words)]) if words else Counter()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def scores(found: list[str], true: list[str]) -> dict[str, float]:
    """Means over pages of precision and recall, and the F1 of the means."""
    precisions, recalls = [], []
    for text, reference in zip(found, true):
        got, wanted = shingles(text), shingles(reference)
        hit = (got & wanted).total()
        precisions.append(hit / got.total() if got else 0.0)
        recalls.append(hit / wanted.total() if wanted else 1.0)
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 4),
        "empty": sum(not text.strip() for text in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages")
    parser.add_argument("--peer", help="a Python that has trafilatura")
    args = parser.parse_args()
    with gzip.open(args.pages, "rt", encoding="utf-8", newline="\n") as file:
        rows = [json.loads(line) for line in file]
    true = [row["article_body"] for row in rows]
    html_text(rows[0]["html"])
    begun = time.process_time()
    found = [html_text(row["html"])[1] for row in rows]
    seconds = time.process_time() - begun
    result = {"pages": len(rows), "python": sys.version.split()[0]}
    result["hornbook"] = scores(found, true) | {"pages_per_second": round(len(rows) / seconds, 1)}
    if "page_text" in rows[0]:
        result["all text"] = scores([row["page_text"] for row in rows], true)
    if args.peer:
        ran = subprocess.run([args.peer, "-c", _PEER, args.pages], capture_output=True, text=True, check=True)
        peer = json.loads(ran.stdout)
        result[f"trafilatura {peer['version']}"] = scores(peer["texts"], true) | {
            "pages_per_second": round(len(rows) / peer["seconds"], 1)
        }
    for name, numbers in result.items():
        if isinstance(numbers, dict):
            print(f"{name:20s} {numbers}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
