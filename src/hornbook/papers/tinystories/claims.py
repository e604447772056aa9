"""The claims of the recipe `tinystories`: differences with one number a seed, rules fixed before the run."""

from collections.abc import Sequence
from statistics import fmean

from hornbook.evals.stories.exam import NGRAM, TEACHER
from hornbook.lab.claim import over_seeds
from hornbook.lab.run import Run
from hornbook.papers.tinystories.study import GRAMMAR, LABELS, TRACKING, Study, name_of

HELD_OUT, TRAINING = "held-out stories", "training stories"
CLOSE = 0.1
"""Rouge-2 precision by which a student may lie nearer to a training story than held-out stories do."""
FLUENT = 0.9
EMERGED = 0.05
"""Below this grade of the largest student, what it comes after and how fast it falls is not judged."""


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _shown(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f}"


def _emerged(study: Study, *aspects: str) -> bool:
    largest = name_of(study.settings.largest)
    return all(fmean(study.grade(largest, aspect)) >= EMERGED for aspect in aspects)


def judge_claims(run: Run, study: Study) -> None:
    """The sentences of the paper that can be asked of exact graders at this size."""
    _size(run, study)
    _order(run, study)
    _instructions(run, study)
    _data(run, study)
    _memory(run, study)
    _neurons(run, study)


def _size(run: Run, study: Study) -> None:
    s = study.settings
    largest, smallest = name_of(s.largest), name_of(s.smallest)
    shallow, narrow = s.shallow, (s.widths[0], s.depths[-1])
    one_layer, best = name_of(shallow), study.bits[s.largest]
    for name, sentence, worse in (
        ("width-lowers-loss", "At the greatest depth, wider students have a lower loss.", narrow),
        ("depth-lowers-loss", "At the greatest width, deeper students have a lower loss.", shallow),
    ):
        run.claim(
            over_seeds(
                name,
                sentence,
                _minus(study.bits[worse], best),
                above=0.0,
                unit="bits per byte",
                why=f"{name_of(worse)} {_shown(study.bits[worse])}, {largest} {_shown(best)}.",
            )
        )
    run.claim(
        over_seeds(
            "one-layer-is-fluent",
            "A student of a single layer writes grammatical sentences.",
            study.grade(one_layer, "grammar"),
            above=FLUENT,
            paper_value="21M with one layer: grammar 8 of 10",
            unit="share of sentences without fault",
            why=f"The teacher's own sentences: {study.control(TEACHER, 'grammar'):.3f}.",
        )
    )
    keeps = {
        aspect: [
            small / large if large else 0.0
            for small, large in zip(study.grade(smallest, aspect), study.grade(largest, aspect), strict=True)
        ]
        for aspect in ("grammar", "sound")
    }
    run.claim(
        over_seeds(
            "consistency-needs-size",
            "The smallest student keeps more of the largest one's grammar than of its consistency.",
            _minus(keeps["grammar"], keeps["sound"]) if _emerged(study, "sound") else [],
            above=0.0,
            paper_value="1M to 28M: grammar 6 to 9, consistency 2 to 9",
            unit="difference of shares kept",
            why=f"Of {largest}, {smallest} keeps {fmean(keeps['grammar']):.0%} of the grammar and "
            f"{fmean(keeps['sound']):.0%} of the consistency.",
        )
    )
    gains = {
        kind: _minus(study.told_apart(largest, faults), study.told_apart(one_layer, faults))
        for kind, faults in (("tracking", TRACKING), ("grammar", GRAMMAR))
    }
    run.claim(
        over_seeds(
            "depth-serves-tracking",
            "Depth helps to keep track of who and what more than it helps grammar.",
            _minus(gains["tracking"], gains["grammar"]),
            above=0.0,
            paper_value="depth matters more for consistency (no figure)",
            unit="difference of gains in accuracy from one layer to the deepest",
            why=f"Tracking {fmean(gains['tracking']):+.3f}, grammar {fmean(gains['grammar']):+.3f}; "
            "a choice between two continuations, chance 0.5.",
        )
    )
    run.claim(
        over_seeds(
            "more-than-n-grams",
            "The largest student is more consistent than 5-grams of the same stories.",
            [value - study.control(NGRAM, "sound") for value in study.grade(largest, "sound")],
            above=0.0,
            unit="difference of shares of consistent sentences",
            why=f"{_shown(study.grade(largest, 'sound'))} against "
            f"{study.control(NGRAM, 'sound'):.3f}; were they equal, the world would be too easy.",
        )
    )


def _order(run: Run, study: Study) -> None:
    when = {aspect: study.reached(aspect) for aspect in ("grammar", "sound", "creative")}
    names = {"sound": "consistency", "creative": "creativity"}
    about = ", ".join(f"{names.get(a, a)} {fmean(values):.2f}" for a, values in when.items())
    for name, sentence, later, sooner in (
        ("grammar-first", "As a student grows, grammar comes before consistency.", "sound", "grammar"),
        ("creativity-last", "Creativity comes after consistency.", "creative", "sound"),
    ):
        run.claim(
            over_seeds(
                name,
                sentence,
                _minus(when[later], when[sooner]) if _emerged(study, later, sooner) else [],
                above=0.0,
                paper_value="a figure",
                unit="doublings of the training",
                why=f"Doublings until 90 % of the final grade: {about}.",
            )
        )


def _instructions(run: Run, study: Study) -> None:
    s = study.settings
    largest, shallow = name_of(s.largest), name_of((s.widths[-1], s.depths[0]))
    deep, flat = study.follows(largest, *LABELS), study.follows(shallow, *LABELS)
    run.claim(
        over_seeds(
            "one-layer-follows-less",
            "With one layer instructions are followed less than with the most layers.",
            _minus(deep, flat),
            above=0.0,
            paper_value="consistency with the instructions: 28M with 8 layers 9, 21M with one 4",
            unit="difference of shares followed",
            why=f"{_shown(deep)} against {_shown(flat)}.",
        )
    )
    both = [f"{label}, together" for label in ("Words", "Summary")]
    asked = study.follows(largest, *both)
    chance = study.follows(largest, *(f"{key} by chance" for key in both))
    alone = study.follows(largest, "Words", "Summary")
    run.claim(
        over_seeds(
            "unseen-combination",
            "Two kinds of instruction that training never held together are followed together.",
            _minus(asked, chance),
            above=0.0,
            paper_value="33M follows both (no figure)",
            unit="share followed, above that of another prompt's instructions",
            why=f"Together {_shown(asked)}, each alone {_shown(alone)}, by chance {_shown(chance)}.",
        )
    )


def _data(run: Run, study: Study) -> None:
    injected, left = (study.grade(arm, "sound") for arm in study.settings.arms())
    run.claim(
        over_seeds(
            "random-words-teach",
            "Stories from random words and features teach more than what a teacher tells left to itself.",
            _minus(injected, left),
            above=0.0,
            paper_value="the reason for the word lists (no figure)",
            unit="difference of shares of consistent sentences, on unseen words",
            why=f"{_shown(injected)} against {_shown(left)}, on as many tokens.",
        )
    )


def _memory(run: Run, study: Study) -> None:
    teacher = study.copied[HELD_OUT][TEACHER]["nearest"]
    student = study.copies(HELD_OUT, "student")
    run.claim(
        over_seeds(
            "does-not-copy",
            "What students write lies hardly nearer to a training story than held-out stories do.",
            [value - teacher for value in student],
            below=CLOSE,
            paper_value="histograms: little is copied",
            unit="difference of Rouge-2 precision against the nearest training story",
            why=f"Students {_shown(student)}, the teacher's held-out endings {teacher:.3f}; copied: "
            f"{fmean(study.copies(HELD_OUT, 'student', 'copied')):.1%} of endings.",
        )
    )
    memoriser, own = study.copies(TRAINING, "memoriser"), study.copies(TRAINING, "student")
    run.claim(
        over_seeds(
            "copying-is-seen",
            "A student that was made to memorise is found out by the same measure.",
            _minus(memoriser, own),
            above=0.0,
            unit="difference of Rouge-2 precision, on beginnings of its training stories",
            why=f"Memoriser {_shown(memoriser)}, student {_shown(own)}.",
        )
    )


def _neurons(run: Run, study: Study) -> None:
    name = name_of(study.settings.shallow)
    purity, fresh = study.neuron(name, "purity"), study.neuron(name, "fresh")
    run.claim(
        over_seeds(
            "neurons-have-kinds",
            "Neurons of the widest student of one layer are strongest at words of one kind.",
            _minus(purity, fresh),
            above=0.0,
            paper_value="read by eye",
            unit="share of one kind among ten words, above that of weights as they were drawn",
            why=f"{_shown(purity)} against {_shown(fresh)}; words dealt out at random: "
            f"{_shown(study.neuron(name, 'chance'))}.",
        )
    )
    cost, others = study.neuron(name, "named", "cost"), study.neuron(name, "named", "others")
    run.claim(
        over_seeds(
            "name-neuron-matters",
            "Names lose more by silencing the neuron that is highest before them than by silencing others.",
            _minus(cost, others),
            above=0.0,
            unit="nats a name",
            why=f"{_shown(cost)} against {_shown(others)}; found and silenced on different stories.",
        )
    )
