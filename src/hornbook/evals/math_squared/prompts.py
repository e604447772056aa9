"""The prompts of MATH^2's five steps, in our own words; a change of any of them is a new VERSION.

The paper's exemplars are long conversations with a human critic. Ours are short and of our own making: two
conversations for step 2, six judged questions for step 4, with the same kinds of flaws.
"""

from hornbook.lm.base import Message

VERSION = "math-squared-1"

DISTINCT = """\
Here are two mathematical skills, each with questions that need it.

Skill A: {a}
{of_a}

Skill B: {b}
{of_b}

Are these two really different skills? They are not if they are the same under two names, or if one of them
is a part of the other. Reason briefly, and end with a line that is only Yes (different) or No.
"""

GENERATE = """\
Write one new question of mathematics that needs both of these skills.

Skill A: {a}
{of_a}

Skill B: {b}
{of_b}

Neither skill may be decoration: each must be at least as demanding as in its examples, and the answer must
depend on both. The question asks for exactly one answer, which is exact. It gives all that is needed and
nothing that is not, and it can be solved with pen and paper. First say what was wrong with your first idea
and how you mended it; then write the question itself below the line

# QUESTION
"""

TALKS: tuple[Message, ...] = (
    Message(
        "user", "Write one question that needs both skills: prime factorization, and area of plane figures."
    ),
    Message(
        "assistant",
        "# QUESTION\nA square has an area of 36 and a rectangle has sides that are prime numbers. What is "
        "the side of the square?",
    ),
    Message(
        "user",
        "The primes play no part: the answer depends on the square alone, and the rectangle is not "
        "determined. Mend both.",
    ),
    Message(
        "assistant",
        "The rectangle was decoration. Its sides must follow from a factorization.\n\n# QUESTION\nThe "
        "sides of a rectangle are two different primes, and its area is 221. What is the area of the square "
        "that has the same perimeter?",
    ),
    Message("user", "Good. Another: counting arrangements, and solving linear equations."),
    Message(
        "assistant",
        "# QUESTION\nIn how many ways can 5 books stand on a shelf, and if 3x + 4 = 19, what is x?",
    ),
    Message(
        "user",
        "These are two questions with an 'and' between them, so two answers are asked for. Let the "
        "result of one be used in the other, and ask once.",
    ),
    Message(
        "assistant",
        "There were two answers. The count can stand in the equation.\n\n# QUESTION\nLet N be the number of "
        "ways in which 5 different books can stand on a shelf if a certain one comes first. Solve "
        "3x - N = 2x + 4 for x.",
    ),
)

ATTEMPT = """\
Here is a question that nobody has checked. Try to solve it, but as a sceptic: expect that it cannot be
solved, and look for the reason. Do its statements contradict each other? Is something missing? Can it be
read in two ways? Is a fact given that is not needed? Is it beyond pen and paper?

<<<
{question}
>>>

Write down your attempt, and every fault that you found, each on a line that begins with FAULT:
"""

VALIDATE = """\
You check questions of mathematics that are to need two skills. A question is good if all of this holds:

1. It asks for exactly one answer.
2. The answer is exact, not an estimate and not open.
3. Both skills are needed, each at least as much as in a usual question on it; none is tacked on.
4. It is clear and complete: everything that is needed is given.
5. Nothing is given that is not needed.
6. It is possible: no statement contradicts another, or what is known of the world.
7. Grammar and notation are right.
8. It can be solved with pen and paper, not only by long calculation or trial.

Examples:

Question: A right triangle has legs 5 and 12. A bag holds 3 red balls. What is the hypotenuse?
# REASONING
The bag has no part in the answer, so the second skill is decoration (3, 5).
# FINAL ANSWER
No

Question: Let N be the number of divisors of 60. What is the sum of the first N odd numbers?
# REASONING
The count of divisors, 12, is used in the sum, 144. Both are needed and nothing is missing.
# FINAL ANSWER
Yes

Question: Find all three-digit numbers whose digits sum to 13, and the median of those that are prime.
# REASONING
Two things are asked for (1), and only a long search finds them (8).
# FINAL ANSWER
No

Question: A triangle has sides 3, 4 and 9. What is its area, as a fraction of the circle of radius 2?
# REASONING
3 and 4 together are shorter than 9, so there is no such triangle (6).
# FINAL ANSWER
No

Question: The roots of x^2 - kx + 8 are integers. How many ways are there to choose k of 12 people?
# REASONING
k may be 6 or 9 (or negative), so the question does not say which (4).
# FINAL ANSWER
No

Question: A fair coin is tossed as often as 10 has prime factors. What is the probability of only heads?
# REASONING
10 has two prime factors, so two tosses: 1/4. Both skills are needed, if only a little.
# FINAL ANSWER
Yes

Now this one. The skills are: {a}; {b}.

Question: {question}

A sceptic's attempt at it, which may itself be wrong, between the marks:
<<<
{attempt}
>>>

Answer in the form of the examples: # REASONING, then # FINAL ANSWER with Yes or No.
"""

SOLVE = """\
These questions are solved:

{examples}

Solve this one step by step, and give the final answer as \\boxed{{...}}.

Question: {question}
"""
