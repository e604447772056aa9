"""Prompts for a real teacher, in our own words; randomness comes from the plan, as in TinyStories and phi-1.

The papers' prompts are unpublished (phi-1) or not copied here; only their ingredients are used.
"""

VERSION = "prompts-1"

STORY = """\
Write a short story of 3 to 5 paragraphs for a child of four. Use only simple words that such a child knows.
The story must use the verb "{verb}", the noun "{noun}" and the adjective "{adjective}".
It is about {hero}, {a_hero_kind}, and {friend}, {a_friend_kind}.
{features}Keep the words simple. Write only the story.
"""

STORY_FOR_THE_SMALL = """\
Write a short story for children about {hero}, {a_hero_kind}, and {friend}, {a_friend_kind}. Use the words
"{verb}", "{noun}" and "{adjective}".
"""

FEATURES = {
    "Dialogue": "There is at least one conversation.",
    "BadEnding": "The story ends badly.",
    "MoralValue": "The story has a moral.",
    "Twist": "Something unexpected happens.",
    "Foreshadowing": "An early hint points to something that happens later.",
    "Conflict": "There is a quarrel that is settled.",
}

QUESTION = """\
Here is a word problem for a grade-school pupil:

{seed_question}

Write one new word problem of the same kind. Change the scene, the people and the numbers (in digits), and
word it differently. It must take at least two steps, hold all that is needed and
give no hint at the solution. It happens in {place}, and {name} is in it. Write only the problem.
"""

SOLUTION = """\
Solve this problem with a short Python function `solution()` (no arguments) that returns the number asked for:

{question}

Give every quantity a variable with a clear name, take one small step a line, and write no comments.
Answer with one Python code block.
"""

TEXTBOOK = """\
Write a short lesson about {concept} for {audience}, in a {tone} tone, 60 to 150 words.
Mention {noun} somewhere as an example.{code} Write only the lesson.
"""

EXERCISE = """\
Write one short Python exercise: a function named `{name}` with a docstring that says what it does and shows
two examples in the form of `>>>` lines with their results, and a short body that is correct.
Answer with one Python code block.
"""

DIALOGUE = """\
Write what a friendly little assistant answers to this message, in one to three short, simple sentences:

{message}

Write only the answer.
"""

CORRECTION = """\
That is not right yet. {problem} Please write it again, complete and without any remark.
"""
