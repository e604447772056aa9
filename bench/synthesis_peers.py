"""Programs that write rows with other tools; `bench/synthesis.py` runs each in that tool's own Python.

Each is given the URL, the number of rows, the calls it may make at once and a folder to keep things in, and
prints one JSON line: seconds of the run itself (imports and set-up left out) and how many rows it delivered.
"""

# A whole `hornbook write`: prompts, answers kept in the call store, checks, lineage, the corpus written.
HORNBOOK = """
import json, os, resource, sys, time
from pathlib import Path
from hornbook.lab.run import Run
from hornbook.synth.session import Session
from hornbook.synth.writers import writer
url, rows, at_once, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
WRITER, OPTIONS = "topics", {}
import hornbook.lm.endpoint, hornbook.lm.store, httpx, pandas, pyarrow.parquet, zstandard
session = Session(run=Run(Path(folder), recipe="bench", scale="bench", settings={}), writer=writer(WRITER),
                  rows=rows, teacher=url + "#m", options=OPTIONS)
begun = time.perf_counter()
made = session.write()
seconds = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_SELF)
written = made.facts["rows"] + made.facts["removed"].get("exact repeat", 0)  # two plans may be the same
print(json.dumps({"seconds": seconds, "rows": written, "cpu": used.ru_utime + used.ru_stime}))
"""

# The same with rows of four calls: draft, grades, rewrite, grades.
HORNBOOK_REVISED = HORNBOOK.replace('"topics", {}', '"revised", {"rounds": 1}')

# The same, told the capacity as the others are.
TOLD = 'os.environ["HORNBOOK_AT_ONCE"] = str(at_once)\nWRITER'
HORNBOOK_TOLD = HORNBOOK.replace("WRITER", TOLD, 1)
HORNBOOK_REVISED_TOLD = HORNBOOK_REVISED.replace("WRITER", TOLD, 1)

DISTILABEL = """
import json, os, sys, time
url, rows, at_once, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.environ["HF_HUB_OFFLINE"] = "1"
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
if __name__ == "__main__":
    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        data = [{"instruction": f"question {i}"} for i in range(rows)]
        load = LoadDataFromDicts(data=data, batch_size=at_once)
        llm = OpenAILLM(model="m", base_url=url, api_key="x", max_retries=6, timeout=30)
        load >> TextGeneration(llm=llm, input_batch_size=at_once)
    begun = time.perf_counter()
    made = pipeline.run(use_cache=True)["default"]["train"]
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "rows": sum(x is not None for x in made["generation"])}))
"""

DATA_DESIGNER = """
import json, os, sys, time
url, rows, at_once, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.environ["NEMO_TELEMETRY_ENABLED"] = "false"
import pandas
import data_designer.config as dd
from data_designer.interface import DataDesigner
seeds = pandas.DataFrame({"question": [f"question {i}" for i in range(rows)]})
provider = dd.ModelProvider(name="mock", endpoint=url, provider_type="openai", api_key="x")
designer = DataDesigner(artifact_path=folder, model_providers=[provider])
settings = dd.ChatCompletionInferenceParams(max_parallel_requests=at_once, max_tokens=512, timeout=30)
model = dd.ModelConfig(
    alias="m", model="m", provider="mock", inference_parameters=settings, skip_health_check=True
)
builder = dd.DataDesignerConfigBuilder(model_configs=[model])
builder.with_seed_dataset(dd.DataFrameSeedSource(df=seeds))
builder.add_column(dd.LLMTextColumnConfig(name="text", prompt="{{ question }}", model_alias="m"))
begun = time.perf_counter()
made = designer.create(builder, num_records=rows, dataset_name="bench").load_dataset()
print(json.dumps({"seconds": time.perf_counter() - begun, "rows": int(made["text"].notna().sum())}))
"""

CURATOR = """
import json, os, sys, time
url, rows, at_once, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.environ |= {"CURATOR_CACHE_DIR": folder, "TELEMETRY_ENABLED": "0", "CURATOR_DISABLE_RICH_DISPLAY": "1",
               "OPENAI_API_KEY": "x", "HF_HUB_OFFLINE": "1"}
import tiktoken
class Words:  # its token counts come from a file on the web; words are counted in their place
    def encode(self, text, **_):
        return text.split()
tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: Words()
from bespokelabs import curator
class Ask(curator.LLM):
    def prompt(self, row):
        return row["question"]
    def parse(self, row, response):
        return {"question": row["question"], "text": response}
settings = {"base_url": url, "api_key": "x", "max_requests_per_minute": 10**6,
            "max_tokens_per_minute": 10**9, "max_concurrent_requests": at_once, "max_retries": 6,
            "request_timeout": 30, "require_all_responses": False}
llm = Ask(model_name="gpt-4o-mini", backend="openai", backend_params=settings)
begun = time.perf_counter()
made = llm([{"question": f"question {i}"} for i in range(rows)])
made = getattr(made, "dataset", made)
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "rows": sum(bool(x) for x in made["text"])}))
"""

PROGRAMS = {
    "hornbook": HORNBOOK,
    "hornbook, told": HORNBOOK_TOLD,
    "hornbook, rows of four": HORNBOOK_REVISED,
    "hornbook, told, rows of four": HORNBOOK_REVISED_TOLD,
    "distilabel": DISTILABEL,
    "data-designer": DATA_DESIGNER,
    "curator": CURATOR,
}
PACKAGES = {
    "distilabel": "distilabel",
    "data-designer": "data-designer",
    "curator": "bespokelabs-curator",
}
