"""Languages and kinds of text that a reader tells apart at a glance."""

import inspect
import json
import statistics
import textwrap

import pytest

from hornbook.curate.language import LanguageSettings, counts_by, identify, rejects
from hornbook.curate.words import split
from hornbook.errors import HornbookError

SENTENCES = {
    "en": "The children had been told that they could not cross the river, but it was so low that some of"
    " them did.",
    "de": "Die Kinder wussten, dass sie den Fluss nicht überqueren durften, aber er war so niedrig, dass "
    "es ging.",
    "fr": "Les enfants savaient qu'ils ne devaient pas traverser la rivière, mais elle était si basse "
    "pour eux.",
    "es": "Los niños sabían que no debían cruzar el río, pero era tan bajo que algunos de ellos lo hicieron.",
    "it": "I bambini sapevano che non dovevano attraversare il fiume, ma era così basso che alcuni di "
    "loro lo fecero.",
    "pt": "As crianças sabiam que não podiam atravessar o rio, mas ele estava tão baixo que algumas o "
    "fizeram.",
    "nl": "De kinderen wisten dat ze de rivier niet over mochten, maar het water was zo laag dat het ging.",
    "sv": "Barnen visste att de inte fick gå över floden, men den var så låg att några av dem gjorde det.",
    "pl": "Dzieci wiedziały, że nie wolno im się zbliżać do rzeki, ale jest tak płytka, że to już nie ma "
    "znaczenia.",
    "tr": "Çocuklar bu nehrin çok derin olduğunu biliyordu ama bir gün su o kadar azaldı ki ve daha sonra"
    " geçtiler.",
    "ru": "Дети знали, что им нельзя переходить реку, но она была такой мелкой, что некоторые это сделали.",
    "el": "Τα παιδιά ήξεραν ότι δεν έπρεπε να περάσουν το ποτάμι.",
    "zh": "孩子们知道他们不能过河，但是河水很浅，所以有些人过去了。",
    "ja": "子供たちは川を渡ってはいけないと知っていましたが、水が浅かったので渡りました。",
    "ko": "아이들은 강을 건너면 안 된다는 것을 알고 있었지만 물이 얕았습니다.",
    "ar": "كان الأطفال يعرفون أنه لا يجوز لهم عبور النهر.",
    "hi": "बच्चों को पता था कि उन्हें नदी पार नहीं करनी चाहिए।",
}


def test_languages():
    found = identify(split(list(SENTENCES.values())))
    assert found.language.tolist() == list(SENTENCES)
    assert set(found.kind) == {"prose"}


def test_noise_has_no_language():
    found = identify(split(["xqz wvk jjq plk mnb", "", "12 34", "???"]))
    assert found.language[0] == "und"
    assert (found.score[1:] == 0).all()


def test_program_text_and_prose_are_told_apart():
    modules = [inspect.getsource(m) for m in (json.decoder, json.encoder, json.scanner, statistics, textwrap)]
    prose = [s * 5 for k, s in SENTENCES.items()]
    found = identify(split(modules + prose))
    assert found.kind[: len(modules)].tolist().count("code") >= 4
    assert "prose" not in found.kind[: len(modules)]
    assert "code" not in found.kind[len(modules) :]


def test_rejects_follow_the_settings():
    found = identify(split([SENTENCES["en"], SENTENCES["fr"], "zzz qqq vvv"]))
    assert rejects(found, LanguageSettings(keep=("en",))).tolist() == [False, True, True]
    assert rejects(found, LanguageSettings(keep=("fr",), unknown=True)).tolist() == [True, False, False]
    assert not rejects(found, LanguageSettings(keep=())).any()
    with pytest.raises(HornbookError, match="klingon"):
        LanguageSettings(keep=("klingon",))
    with pytest.raises(HornbookError, match="share"):
        LanguageSettings(share=2)


def test_counts_by():
    assert counts_by(identify(split([SENTENCES["en"], SENTENCES["fr"], SENTENCES["en"]])).language) == {
        "en": 2,
        "fr": 1,
    }
