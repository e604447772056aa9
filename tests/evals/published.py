"""Rows with the columns, types, splits and configurations of the benchmarks' published data sets.

The columns are the published ones; what stands in them was written for these tests.
"""

from collections.abc import Mapping
from typing import Any

from local_hub import Published

_BOTH = ("train", "validation")
_TEXT = {"text": ["ice", "the sun", "snow", "rain", "fog"], "label": ["A", "B", "C", "D", "E"]}
_FOUR = {name: values[:4] for name, values in _TEXT.items()}
_GSM = {"question": "Ann has 3 apples and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}
_IFEVAL = ("num_highlights", "relation", "num_words", "num_placeholders", "keywords", "language")


def _ifeval(name: str, **given: Any) -> dict[str, Any]:
    """Every possible argument stands in every row, most of them empty."""
    return {
        "key": 1,
        "prompt": "Write three words.",
        "instruction_id_list": [name],
        "kwargs": [{other: given.get(other) for other in _IFEVAL}],
    }


def _numbered(row: Mapping[str, Any], field: str, count: int) -> list[dict[str, Any]]:
    return [{**row, field: f"{row[field]} ({n})"} for n in range(count)]


_ARC = {"id": "M1", "question": "What is hot?", "choices": _FOUR, "answerKey": "B"}
_ANLI = {"uid": "u", "premise": "It rains.", "hypothesis": "It is wet.", "label": 0, "reason": ""}
_MBPP = {
    "task_id": 11, "text": "Double a number.", "code": "def double(x):\r\n    return 2 * x",
    "test_list": ["assert double(2) == 4"], "test_setup_code": "", "challenge_test_list": [],
}  # fmt: skip
_MMLU = {"question": "What is hot?", "subject": "astronomy", "choices": _FOUR["text"], "answer": 1}
_MEDQA = {
    "id": "train-00000", "sent1": "Which is hot?", "sent2": "", "ending0": "ice", "ending1": "the sun",
    "ending2": "snow", "ending3": "rain", "label": 1,
}  # fmt: skip
_DROP = {
    "section_id": "nfl_1", "query_id": "q1", "passage": "Ann scored 3 points, Bea 4.",
    "question": "How many points?",
    "answers_spans": {"spans": ["4", "four"], "types": ["number", "span"]},
}  # fmt: skip
_AGIEVAL = {
    "query": "Q: What is hot? Answer Choices: (A)ice (B)the sun\nA: Among A through B, the answer is",
    "choices": ["(A)ice", "(B)the sun"],
    "gold": [1],
}
_HENDRYCKS = {
    "problem": "What is 1 + 1?",
    "level": "Level 1",
    "type": "Algebra",
    "solution": r"It is $\boxed{2}$.",
}

PUBLISHED: Published = {
    "hails/agieval-aqua-rat": {"": {"test": [_AGIEVAL]}},
    "hails/agieval-gaokao-english": {"": {"test": [_AGIEVAL]}},
    "facebook/anli": {"": {"train_r3": [_ANLI], "test_r3": [_ANLI, {**_ANLI, "label": 2}]}},
    "allenai/ai2_arc": {name: {"train": [_ARC], "test": [_ARC]} for name in ("ARC-Easy", "ARC-Challenge")},
    "SaylorTwift/bbh": {
        name: {"test": [{"input": "not True is", "target": "False"}]}
        for name in ("boolean_expressions", "causal_judgement")
    },
    "google/boolq": {
        "": {s: [{"question": "is ice hot", "answer": False, "passage": "Ice is cold."}]
             for s in _BOTH}
    },
    "tau/commonsense_qa": {
        "": {s: [{"id": "1", "question": "What is hot?", "question_concept": "heat", "choices": _TEXT,
                  "answerKey": "B"}] for s in _BOTH}
    },
    "aps/super_glue": {
        "copa": {s: [{"premise": "It rained.", "choice1": "It was wet.", "choice2": "It was dry.",
                      "question": "effect", "idx": 0, "label": 0}] for s in _BOTH}
    },
    "ucinlp/drop": {"": {"train": [_DROP], "validation": [_DROP]}},
    "openai/gsm8k": {"main": {"train": _numbered(_GSM, "question", 5), "test": [_GSM]}},
    "Rowan/hellaswag": {
        "": {s: [{"ind": 4, "activity_label": "Making tea", "ctx_a": "She boils water.", "ctx_b": "then",
                  "ctx": "She boils water. then", "endings": ["pours it.", "flies.", "sings.", "reads."],
                  "source_id": "a~b", "split": "val", "split_type": "indomain", "label": "0"}]
             for s in _BOTH}
    },
    "openai/openai_humaneval": {
        "openai_humaneval": {"test": [{
            "task_id": "HumanEval/0", "prompt": "def double(x):\n    \"\"\" Twice x. \"\"\"\n",
            "canonical_solution": "    return 2 * x\n", "entry_point": "double",
            "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n",
        }]}
    },
    "google/IFEval": {"": {"train": [
        _ifeval("punctuation:no_comma"),
        _ifeval("length_constraints:number_words", relation="at least", num_words=2),
        _ifeval("keywords:existence", keywords=["sun"]),
    ]}},
    "EleutherAI/lambada_openai": {"default": {"test": [{"text": "The sun was hot and the ice was cold"}]}},
    "EleutherAI/hendrycks_math": {
        part: {"test": [_HENDRYCKS]} for part in ("algebra", "counting_and_probability")
    },
    "google-research-datasets/mbpp": {
        "full": {"train": [_MBPP], "test": [_MBPP], "prompt": _numbered(_MBPP, "text", 3)}
    },
    "GBaker/MedQA-USMLE-4-options-hf": {"": {s: [_MEDQA] for s in ("train", "validation", "test")}},
    "cais/mmlu": {"all": {"test": [_MMLU], "dev": _numbered(_MMLU, "question", 5)}},
    "google-research-datasets/nq_open": {
        "nq_open": {s: [{"question": "what is hot", "answer": ["the sun"]}] for s in _BOTH}
    },
    "allenai/openbookqa": {
        "main": {s: [{"id": "7", "question_stem": "What is hot?", "choices": _FOUR, "answerKey": "B"}]
                 for s in ("train", "test")}
    },
    "baber/piqa": {"": {s: [{"goal": "To warm up,", "sol1": "eat ice.", "sol2": "seek the sun.", "label": 1}]
                        for s in _BOTH}},
    "allenai/sciq": {
        "": {s: [{"question": "Hot?", "distractor1": "ice", "distractor2": "snow", "distractor3": "fog",
                  "correct_answer": "the sun", "support": "The sun is hot."}] for s in _BOTH}
    },
    "basicv8vc/SimpleQA": {
        "": {"test": [{"metadata": "{'topic': 'Science'}", "problem": "What is hot?", "answer": "the sun"}]}
    },
    "lighteval/siqa": {
        "": {s: [{"context": "Ann was cold.", "question": "What will Ann do?", "answerA": "eat ice",
                  "answerB": "seek the sun", "answerC": "swim", "label": "2"}] for s in _BOTH}
    },
    "ChilleD/SVAMP": {
        "": {"test": [{"ID": "chal-1", "Body": "Ann has 3 apples.", "Question": "How many has she?",
                       "Equation": "3.0", "Answer": "3.0", "Type": "Addition", "question_concat": "-"}]}
    },
    "mandarjoshi/trivia_qa": {
        "rc.wikipedia.nocontext": {s: [{
            "question": "What is hot", "question_id": "tc_1", "question_source": "",
            "answer": {"aliases": ["Sun", "The Sun"], "normalized_aliases": ["sun"], "value": "Sun"},
        }] for s in _BOTH}
    },
    "domenicrosati/TruthfulQA": {
        "": {"train": [{
            "Type": "Adversarial", "Category": "Myths", "Question": "What is hot?", "Best Answer": "the sun",
            "Correct Answers": "the sun; fire", "Incorrect Answers": "ice; snow", "Source": "",
        }]}
    },
    "Salesforce/wikitext": {
        "wikitext-2-raw-v1": {"test": [{"text": line} for line in ("", " = Sun = \n", " It is hot . \n")]}
    },
    "allenai/winogrande": {
        "winogrande_xl": {s: [{"sentence": "The sun beat the ice because _ was hot.", "option1": "the sun",
                               "option2": "the ice", "answer": "1"}] for s in _BOTH}
    },
}  # fmt: skip
