"""What no written row may hold: personal data, and words that a child's book would not print.

Patterns see forms, not meaning: a threat in polite words passes, and so does a fact that is nobody's to
tell. The words are written in rot13, so that this file can be read.
"""

import codecs
import re
from collections.abc import Mapping

from hornbook.curate import pii

_ROT13: Mapping[str, str] = {
    "profanity": r"shpx\j*|fuvg\j*|ohyyfuvg|nffubyr\j*|onfgneq\j*|ovgpu\j*|phag\j*|qvpxurnq\j*|zbgureshpx\j*",
    "sexual": r"cbeab\j*|oybjwbo\j*|znfgheong\j*|betnfz\j*|fyhg\j*|juber\j*|ahqrf",
    "slur": r"avttre\j*|snttbg\j*|xvxr[fq]?|fcvpf?|puvaxf?|genaavr?f?|ergneq(?:rq|f)?",
    "threat": r"xvyy lbhefrys|v jvyy xvyy lbh|tb naq qvr|lbh fubhyq qvr|jvfu lbh jrer qrnq",
    "insult": r"lbh ner (?:fb )?(?:fghcvq|jbeguyrff|htyl|qvfthfgvat)|lbh vqvbg|lbh zbeba|fuhg hc",
}
KINDS = tuple(_ROT13)
_PATTERNS = {
    kind: re.compile(rf"\b(?:{codecs.decode(words, 'rot13')})\b", re.I) for kind, words in _ROT13.items()
}


def toxic_kinds(text: str) -> list[str]:
    """Which of `KINDS` occur in a text."""
    return [kind for kind, pattern in _PATTERNS.items() if pattern.search(text)]


def unsafe_problem(text: str) -> str:
    """What must be taken out of a text, as a sentence that can go back to its writer; empty: nothing."""
    found = sorted({finding.kind for finding in pii.find(text)})
    if found:
        return f"The text holds personal data ({', '.join(found)}); leave it out."
    kinds = toxic_kinds(text)
    return f"The text holds {kinds[0]}; write it so that a child may read it." if kinds else ""
