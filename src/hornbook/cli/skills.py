"""parrot: how many full marks of Skill-Mix no corpus explains."""

import argparse

from hornbook.errors import HornbookError


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The options of `hornbook parrot`."""
    sub.add_argument(
        "--full-marks", required=True, metavar="N/OF", help="combinations with full marks: 12/100"
    )
    sub.add_argument("--k", type=int, required=True, help="skills in a combination")
    sub.add_argument("--skill-rate", type=float, help="share of texts that show a given skill, on average")
    sub.add_argument("--topic-rate", type=float, help="share of texts on a given topic, on average")
    sub.add_argument("--texts", type=float, help="texts in the corpus: 5e9")
    sub.add_argument("--expected", type=float, help="instead of the three: texts that show a combination")


def parrot(args: argparse.Namespace) -> None:
    """Prints what a stochastic parrot could have seen, and what of the score is beyond it."""
    from hornbook.evals.skill_mix.score import expected_occurrences, novel_share
    from hornbook.lab.statistics import wilson_interval

    hits, _, trials = args.full_marks.partition("/")
    try:
        won, of = int(hits), int(trials)
    except ValueError:
        won = of = -1
    if not 0 <= won <= of or of < 1:
        raise HornbookError(f"--full-marks is {args.full_marks!r}; accepted is a count of a count, as 12/100")
    rates = (args.skill_rate, args.topic_rate, args.texts)
    if (args.expected is None) == any(rate is None for rate in rates):
        raise HornbookError("name --skill-rate, --topic-rate and --texts, or --expected instead of the three")
    expected = args.expected
    if expected is None:
        expected = expected_occurrences(
            k=args.k, skill_rate=args.skill_rate, topic_rate=args.topic_rate, pieces=args.texts
        )
    elif expected < 0 or args.k < 1:
        raise HornbookError(
            f"--expected is {expected} and --k {args.k}; accepted are 0 or more, and 1 or more"
        )
    low, high = wilson_interval(won, of)
    seen = novel_share(won / of, expected, low=low)
    most = novel_share(high, expected).share
    print(f"A random combination of {args.k} skills and a topic stands in {expected:.4g} texts on average.")
    print(f"Full marks on {won} of {of} combinations: {won / of:.1%} [{low:.1%}, {high:.1%}].")
    print(f"At least {seen.share:.1%} of these [{seen.low:.1%}, {most:.1%}] are on combinations no text has.")
    print(
        "Skills are taken to occur independently: where they come together, texts show them more often "
        "(docs/papers/skill_mix.md)."
    )
