"""Shen et al. 2023, "Positional Description Matters for Transformers Arithmetic" (arXiv 2311.14737).

digits: random numbers of given lengths and their exact products and sums, by the million. formats: the ways
to write a problem down. strings: copying and reversing. dialogue: problems inside conversations. lines: what
all of these come to, and a training loader over it. exam: greedy answers, graded by cell and by digit.
"""
