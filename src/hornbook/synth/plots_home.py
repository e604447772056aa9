# ruff: noqa: E501 - one wording a line
"""Six plots of the story world: share, make, sorry, gift, lonely, mend. Data only; keys as in `plots_outdoors`."""

from hornbook.synth.plots_outdoors import Plot

SHARE: Plot = {
    "start": (
        "{Day_part}, {H} had {ao}. {F} had [nothing|no {o} at all] and [looked at it|watched quietly].",
        "{H} went {to_place} with {ao}. {F} was there too, [with empty hands|with nothing].",
        "{A} gave {H} {ao}. It was the only one, and {F} wanted one too.",
    ),
    "event": (
        "Together they {Ved}, but {H} held the {o} [tight|with both hands]. {W}.",
        "{H} {Ved} {at} with the {o}, and {F} [stood by|sat under a tree]. {W}.",
    ),
    "hint": (
        "{A} had [often|once] [said|told {H}] that good things [grow|get better] when you share them.",
        "{H} did not know that {he} would soon need {F}.",
    ),
    "fight": (
        '"Give it to me!" said {F}. "No!" said {H}. They both pulled at the {o}.',
        '{F} said, "You never share." {H} [got angry|stamped a foot] and turned away.',
    ),
    "trouble": (
        "{F} looked so {sad} that {H} did not like {his} {o} [so much|as much] as before.",
        "Then {F} walked away [slowly|with a tear]. Suddenly {H} felt {sad} and alone.",
    ),
    "talk": (
        '"Would you like to have [some|a turn]?" asked {H}. "[Yes, please|Really]!" said {F}.',
        '"Why are you [quiet|sad]?" asked {H}. "I [wish I had|would like] {a_o} too," said {F}.',
    ),
    "turn": (
        "{H} thought for a moment. Then {he} gave the {o} to {F} [for a while|with a smile].",
        "{H} went to {F} and [held out|offered] the {adj} {o}.",
    ),
    "twist": (
        "Then {F} [opened a bag|reached into a pocket] and took out a second {o}! It was a gift for {H}.",
        "Just then {A} came with a second {o}. Now there were two!",
    ),
    "good": (
        "They had [fun|a good time] until [the sun went down|it was dark|it was time to go]. {H} was {glad}, and so was {F}.",
        "{F} smiled [from ear to ear|happily]. It was [the best {part}|much more fun|so much better] with two, and {H} felt {glad}.",
    ),
    "bad": (
        "But it was too late. {F} did not want it anymore and went home, and {H} felt {sad}.",
        "But they both pulled, and the {o} fell [into the mud|into the water]. Now nobody had it, and both were {sad}.",
    ),
    "moral": (
        "{H} learned that sharing makes a good thing better.",
        "They learned that joy gets bigger when you share it.",
    ),
}

MAKE: Plot = {
    "start": (
        "{H} wanted to make {ao}. {He} asked {F} to help.",
        "{Day_part}, {H} saw {ao} [in a shop|at the market], but {he} had no [money|coins]. So {he} [wanted to make one|decided to make one|made a plan].",
        "It was almost time for the fair. {H} and {F} wanted to make {ao} for it.",
    ),
    "event": (
        "They got [wood and string|paper and paint|all they needed] {at}. While they worked, they {Ved}.",
        "{W}. First they {Ved}, and then they worked on the {o} [all {part}|with care].",
        "{H} [measured|mixed] and {F} [held|stirred]. {W}.",
    ),
    "hint": (
        "They did not think about the [wind|weather], and they worked fast.",
        "{A} had told them to [work slowly|take their time].",
    ),
    "fight": (
        '"It must be [big|round|tall]!" said {H}. "No, it must be small!" said {F}. They stopped working.',
        "{H} wanted to do everything alone. {F} [put the tools down|got cross] and sat in a corner.",
    ),
    "trouble": (
        "But the {o} [fell apart|broke into two parts|fell down]! {H} felt {sad}.",
        "Then the wind [blew|pushed] the {o} away, and it landed in the mud. {H} felt {sad}.",
        "The first {o} was [no good|a mess]. {F} looked at {H} and sighed.",
    ),
    "talk": (
        '"We cannot do it," said {H}. "[Yes, we can|Let us try again]," said {F}.',
        '"What did we do wrong?" asked {F}. "[We were too fast|We forgot one step]," said {H}.',
    ),
    "turn": (
        "So they began again, [slowly|step by step]. {A} showed them a little trick.",
        "They asked {A} for help. With [more care|three pairs of hands|a little patience], the [work|{o}] [went well|came out well].",
    ),
    "twist": (
        "When it was done, the {o} began to [glow|sing|move by itself]! It was magic.",
        "In the end it looked a little like [a bird|a star|a house], and that made it even better!",
    ),
    "good": (
        "At last the {adj} {o} was ready. {H} and {F} were {glad} and showed it to everyone.",
        "It was the best {o} {at}. {H} felt {glad} [all day|until bedtime].",
    ),
    "bad": (
        "But the {o} broke again. {H} and {F} went to bed {sad}.",
        "But then the rain came and ruined the {o}. {H} was {sad}, and they gave up.",
    ),
    "moral": (
        "They learned that it is fine to fail and try again.",
        "{H} learned that good work needs time.",
    ),
}

SORRY: Plot = {
    "start": (
        "{F} had {ao}. It was so nice that {H} could not stop [looking at|thinking of] it.",
        "{Day_part}, {F} [showed|brought] {ao}. {H} wanted to have it too.",
    ),
    "event": (
        "They {Ved} {at}, and {W}. When {F} went to drink water, {H} took the {o}.",
        "While {F} was {Ving}, {H} [hid|put] the {o} {u}.",
        "They {Ved} {at} until {F} fell asleep. {H} took the {o} and went home.",
    ),
    "hint": (
        "A {m} saw [it|everything], but it did not say a word.",
        "[Deep inside|In {his} heart], {H} knew that this was not good.",
    ),
    "fight": (
        '"Did you take it?" asked {F}. "No!" said {H}, and {his} face went red. They [shouted|argued].',
        "{F} looked at {H} for a long time. {H} [got angry|went red] and looked away.",
    ),
    "trouble": (
        "Soon {F} was looking for the {o} everywhere. {FHe} cried, and {H} felt {sad}.",
        "At night, {H} could not sleep. {He} looked at the {o} and thought of {F}.",
    ),
    "talk": (
        '"I feel bad," said {H}. "[Tell me why|What is it]?" asked {A}. {H} told {A} everything.',
        '"What is wrong?" asked {A}. "I took a thing that belongs to {F}," said {H}. "[Then bring it back|You know what to do]," said {A}.',
    ),
    "turn": (
        "The next day, {H} went to {F} and gave the {o} back.",
        "{H} [ran|walked] to {F} and held out the {adj} {o}. {His} hands were shaking.",
    ),
    "twist": (
        "But {F} [laughed|smiled]. {FHe} had wanted to give the {o} to {H} as a gift!",
        "But {F} had [known|seen] it all the time and had only waited for {H} to come.",
    ),
    "good": (
        "{F} [was quiet for a moment|thought for a moment] and then [hugged {H}|smiled at {H}|thanked {H}]. [They were friends again|All was well], and {H} felt {glad}.",
        '"It is all right," said {F}. {H} felt {glad}, and they played with the {o} together.',
    ),
    "bad": (
        "But {F} turned away and did not want to play anymore. {H} was {sad} for a long time.",
        "But the {o} was broken now. {F} cried, and {H} went home {sad}.",
    ),
    "moral": (
        "{H} learned never to take what belongs to somebody else.",
        "{H} learned to ask before taking something.",
    ),
}

GIFT: Plot = {
    "start": (
        "It was almost {F}'s birthday. {H} wanted to give {fhim} {ao}.",
        "{H} knew that {F} had always wanted {ao}. {He} [made a plan|saved every coin].",
        "{F}'s birthday was near, and {H} [looked for|dreamed of] {ao} as a gift.",
    ),
    "event": (
        "{He} went {to_place} and {Ved} on the way. {W}.",
        "{H} [helped|worked for] {A} for [three days|a week] and {Ved} only in the evening.",
        "{H} [told nobody|kept it secret] and {Ved} as on any other day. {W}.",
    ),
    "hint": (
        "{F} [had a secret too|was also very busy that week], but {H} did not know why.",
        "{A} told {him} to be careful, but {H} was [in a hurry|too happy to listen].",
    ),
    "fight": (
        '"You never have time for me!" said {F}. {H} could not [tell|say] why, and they [argued|parted angrily].',
        "{F} thought that {H} had forgotten. {FHe} was cross and [did not say hello|looked away|said nothing].",
    ),
    "trouble": (
        "But on the way, the {o} [fell into a puddle|got a big scratch]. {H} wanted to cry.",
        "But [in the shop|at the market] there was no {o} [left|for {him}]. {H} felt {sad}.",
        "On the big day, the box [with the {o} |]was empty! {H} [looked at it|looked inside] and felt {sad}.",
    ),
    "talk": (
        '"What shall I do now?" asked {H}. "A gift comes from the heart," said {A}.',
        '"I have no gift now," said {H}. "[Come with me|Let us make one]," said {A}.',
    ),
    "turn": (
        "{H} and {A} worked until late. In the end, they had {a_o} [as good as new|that was even nicer|for {F}].",
        "{A} helped {him} to [find|mend] an old {o}[, even nicer than the first one|. It was even nicer|. Now it was as good as new].",
    ),
    "twist": (
        "When {F} opened the box, {fhe} laughed. {FHe} had bought the very same {o} for {H}!",
        "Then a {m} jumped out of the box and made everyone laugh.",
    ),
    "good": (
        "{F} loved the {adj} {o} and hugged {H}. Both of them were {glad}.",
        '"[This is the best gift ever|What a wonderful {o}|I love it]!" said {F}. {H} felt {glad} and a little shy.',
    ),
    "bad": (
        "But {F} did not come to the party. {H} sat alone with the {o} and felt {sad}.",
        "But when {F} opened it, the {o} was broken. {H} ran home {sad}.",
    ),
    "moral": (
        "{H} learned that love is the best part of a gift.",
        "They both learned that giving feels as good as getting.",
    ),
}

LONELY: Plot = {
    "start": (
        "{H} was new {at} and [did not know anybody yet|had no friends yet]. {He} had only {ao} [to play with|to talk to].",
        "Nobody {at} played with {H}. Every day {he} sat alone with {ao}.",
    ),
    "event": (
        "{Day_part}, {H} saw {F} and some others. They were {Ving}, and {W}.",
        "From far away, {H} watched {F}, who {Ved}. {W}.",
    ),
    "hint": (
        "{F} looked over [once|twice], but {H} did not see it.",
        "{A} [always said|had told {him}] that one [small|kind] word can open a door.",
    ),
    "fight": (
        '"Go away, we do not know you," said {F}. {H} [frowned|got angry] and said something mean too.',
        "{F} laughed about the {o}. {H} was cross and [ran away|shouted].",
    ),
    "trouble": (
        "{H} wanted to say hello, but [no word came out|did not dare|was too shy]. {He} felt {sad}[ and small|].",
        "{H} sat down {u} and held the {o}. {He} felt {sad}.",
    ),
    "talk": (
        '"Hello, what is that?" asked {F}. "It is my {o}," said {H}. "Do you want to [see|try] it?"',
        '"May I play with you?" asked {H}. "[Yes|Sure], come here!" said {F}.',
    ),
    "turn": (
        "Then {H} dropped the {o}. {F} [picked it up and brought it back|saw it and brought it back|brought it back].",
        "Then {F} came closer and looked at the {adj} {o}. {FHe} had never seen such a thing.",
    ),
    "twist": (
        "And {F} was [new|shy] too, and had only been waiting[ for {H}|]!",
        "It turned out that {F} lived right next door!",
    ),
    "good": (
        "From that day on, they {Ved} together every {part}. {H} was never alone again and felt {glad}.",
        "They played with the {o} until dinner. {H} went home {glad}, with a new friend.",
    ),
    "bad": (
        "But then {F} had to go home and never came back. {H} was {sad} and held the {o} tight.",
        "But the others called, and {F} left. {H} stayed there alone with the {o}, {sad} and cold.",
    ),
    "moral": (
        "{H} learned that [a friend can begin with one hello|one hello can be enough].",
        "They learned that it is good to ask someone new to play.",
    ),
}

MEND: Plot = {
    "start": (
        "{A} had {ao} and loved it. {H} [knew that|was allowed to hold it].",
        "In {A}'s house there was {ao}. {H} and {F} liked it very much.",
    ),
    "event": (
        "{Day_part}, {H} and {F} took the {o} outside. They {Ved} and forgot to be careful.",
        "{H} and {F} took the {o} {to_place}. They {Ved} and did not [think of it|look after it].",
    ),
    "hint": (
        '"[Be careful|Please watch out]," {A} had said [in the morning|again and again].',
        "The {o} already had a tiny crack, but nobody knew it.",
    ),
    "fight": (
        '"Let us put it back," said {F}. "Not yet!" said {H}. They [shouted|argued] for a while.',
        "Both of them wanted to hold the {o}. They [pulled at it|pushed each other] and were cross.",
    ),
    "trouble": (
        "Crack! The {o} was broken. {H} [turned white|held {his} breath] and felt {sad}.",
        "Then they looked down. The {o} was in [two|three] pieces!",
    ),
    "talk": (
        '"We must tell {A}," said {F}. "I know," said {H}. "[Come with me|I am afraid]."',
        '"I broke your {o}," said {H}. "Thank you for telling me," said {A}.',
    ),
    "turn": (
        "They got some [glue|string] and worked [all {part}|very slowly]. Bit by bit, they mended the {o}.",
        "{H} told {A} everything. Then they [sat down|sat at the table] and mended the {o} [together|with string|with glue].",
    ),
    "twist": (
        "Then {A} showed them a drawer full of broken things. Everybody breaks something once!",
        "Then {A} laughed. The {o} had been broken [many times|once] before!",
    ),
    "good": (
        "Now the {o} was whole again. {A} smiled, and {H} felt {glad}.",
        "The {o} did not look the same, but {A} liked it even more now. {H} was {glad}.",
    ),
    "bad": (
        "But it did not hold. The {o} fell apart again, and {A} was {sad}.",
        "But one piece was lost. The {o} could not be mended, and {H} was {sad}.",
    ),
    "moral": (
        "{H} learned that you should always tell the truth.",
        "They learned to be careful with the things of others.",
    ),
}
