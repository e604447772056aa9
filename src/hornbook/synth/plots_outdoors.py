# ruff: noqa: E501 - one wording a line
"""Six plots of the story world: lost, rescue, brave, warning, treasure, race. Data only.

Keys of a plot: `start` (brings in the object), `hint` (Foreshadowing), `event`, `fight` (Conflict), `trouble`,
`talk` (Dialogue), `turn`, `twist` (Twist), `good` and `bad` (BadEnding) endings, `moral` (MoralValue). Any
wording of an act must follow any wording of the acts before it. Slots: see `world.slots`. A sentence that
begins with a pronoun speaks of the subject of the sentence before it: the consistency grader relies on this.
"""

Plot = dict[str, tuple[str, ...]]

LOST: Plot = {
    "start": (
        "{H} had {ao}. {He} [took it everywhere|loved it more than anything|kept it close all day].",
        "For {his} birthday, {H} got {ao} from {A}. {He} [never let it go|showed it to everyone].",
        "{H} always carried {ao}. [It was {his} favorite thing|It made {him} smile].",
    ),
    "hint": (
        "{H} did not see the small hole in {his} [pocket|bag].",
        '"[Take good care of it|Hold it well]," {A} had [said|told {him}] that {part}.',
        "{He} sometimes put it down and forgot it for [a moment|a little while].",
    ),
    "event": (
        "{Day_part}, {H} and {F} went {to_place} to {V}. {W}.",
        "{H} and {F} {Ved} {at} [all {part}|until they were tired]. {W}.",
        "They went {to_place} together. {W}, and they {Ved}.",
    ),
    "fight": (
        '{F} wanted to hold the {o}, but {H} said, "No, it is mine!" [They did not talk for a while|{F} looked away].',
        "{H} and {F} could not agree who should carry the {o}. Both of them [frowned|were cross].",
    ),
    "trouble": (
        "Then {H} looked down. The {o} was gone! {He} felt {sad}.",
        "When it was time to go home, the {o} was [not there|gone]. {H} began to cry.",
        "Suddenly {H} stopped. {He} [could not find|had lost] the {o}!",
    ),
    "talk": (
        '"[Where|Oh no, where] is my {o}?" asked {H}. "[Do not worry|Do not cry], we will [look|search] together," said {F}.',
        '"I had it [a moment ago|this {part}]," said {H}. "Then it must be [close|here]," said {F}.',
        '"Can you help me?" asked {H}. "[Of course|Yes, I can]!" said {F}. "Two pairs of eyes see more than one."',
    ),
    "turn": (
        "They looked [high and low|here and there|everywhere]. At last, {F} saw something {adj} {u}.",
        "{F} [walked back slowly|followed their steps back] and looked {u}. Something {adj} was there.",
        "They searched [behind every tree|all around] until {F} [pointed|called]. There was something {adj} {u}.",
    ),
    "twist": (
        "But it was not alone. A tiny {m} was [sleeping on it|sitting right next to it]!",
        "To their surprise, a {m} had [made its nest on it|carried it there]!",
    ),
    "good": (
        "It was the {o}! {H} hugged {F} and felt {glad} again.",
        "It was the {o}! {H} [held it tight|danced with joy], and they walked home [together|side by side].",
        "The {o} was safe. {H} [thanked|hugged] {F}, and both of them went home {glad}.",
    ),
    "bad": (
        "But it was only an old [can|box|rag]. {H} never saw the {o} again and went home {sad}.",
        "But it was not the {o}. Night came, and {H} had to go home without it, {sad} and tired.",
        "But before they could reach it, the [wind|water] took it away. {H} cried all the way home.",
    ),
    "moral": (
        "{H} learned to take good care of the things {he} loved.",
        "From then on, {H} knew that a good friend helps you look.",
    ),
}

RESCUE: Plot = {
    "start": (
        "{Day_part}, {H} took {ao} along and went {to_place} with {F}. {W}.",
        "{H} had {ao} in {his} bag. {F} wanted to {V}, so they went {to_place}.",
        "{W}. {H} took {ao}, and {F} came along {to_place}.",
    ),
    "hint": (
        "All {part}, a bird [circled above them|called again and again], as if it wanted to say something.",
        "There were tiny footprints on the path, but nobody [looked at|saw] them.",
    ),
    "event": (
        "While they were {Ving}, they heard a [small|soft|strange] sound {u}.",
        "They {Ved} for a while. Then {F} heard [a tiny cry|something] {u}.",
        "[After a while|Suddenly], they stopped {Ving}. Someone was crying {u}.",
    ),
    "fight": (
        "{F} was afraid and wanted to go home, but {H} wanted to look. They [argued|talked loudly] for a moment.",
        '"[Leave it alone|It is not our problem]," said {F}. {H} shook {his} head and was cross.',
    ),
    "trouble": (
        "It was a little {m}! It [was stuck|was hurt|was cold and hungry] and could not [move|get home].",
        "A small {m} [sat there alone|looked up at them]. It was [lost|hurt|very tired].",
        "They found a tiny {m} that [shook with cold|could not find its home].",
    ),
    "talk": (
        '"Poor little {m}," said {H}. "[We will help you|Do not be afraid]."',
        '"What can we do?" asked {F}. "[I know|I have an idea]!" said {H}. "We can use my {o}."',
        '"Please help me," said the {m}. "[We will|Of course we will]," said {H}.',
    ),
    "turn": (
        "{H} used the {o} to make a [soft bed|warm place] for the {m}. {F} [brought water|found some food].",
        "Gently, {H} put the {m} on the {o} to keep it warm. {F} [sang to it|gave it some water].",
        "{H} laid the {o} on the ground, and the {m} [climbed onto it|lay down on it]. {F} [kept watch|fed it].",
    ),
    "twist": (
        "Then the {m} began to speak! It was [the queen of all the {m} folk|a magic {m}], and it [bowed|laughed].",
        "Suddenly, [ten|a hundred] more of its family came out. They had been looking for it all day!",
    ),
    "good": (
        "[Soon|By evening], the {m} was well again. It [thanked them|danced around them], and {H} felt {glad}.",
        "At last, the {m} could go home. {H} and {F} [waved|smiled] and felt {glad}.",
        "From that day, the {m} was their friend. {H} let it sleep on the {adj} {o}.",
    ),
    "bad": (
        "But the {m} was too weak. They sat with it until night came, and {H} went home {sad}.",
        "But the {m} was afraid and hid. They never saw it again, and {H} went home {sad}.",
    ),
    "moral": (
        "They learned that even small friends need help.",
        "{H} learned that kind hands can do great things.",
    ),
}

BRAVE: Plot = {
    "start": (
        "But {H} was afraid of [the dark|thunder|deep water|high places]. {He} held {ao} when {he} was scared.",
        "{H} had a secret: {he} was afraid of [the dark|thunder|loud noises]. Only {his} {adj} {o} [helped|made it better].",
        "Every night {H} [slept with|looked at] {ao}, because {he} did not like [the dark|to be alone].",
    ),
    "hint": (
        "Far away, something [rumbled|growled], but nobody [listened|cared].",
        "The sky [grew darker|began to change its color], and the birds [were quiet|flew home].",
    ),
    "event": (
        "{Day_part}, {F} asked {H} to {V} {at}. {W}.",
        "{H} and {F} {Ved} {at} [all {part}|until late]. {W}.",
    ),
    "fight": (
        '{F} laughed and said, "You are too scared!" That made {H} [angry|want to go home].',
        "{F} wanted to go on, and {H} wanted to go back. Neither of them would [give in|listen].",
    ),
    "trouble": (
        "Suddenly it [became very dark|grew black all around]. {F} [fell into a hole|was stuck] {u} and called for help.",
        "Then a [big storm|loud storm] came. {F} [slipped|fell] {u} and could not get up.",
    ),
    "talk": (
        '"[I am scared|I cannot do it]," whispered {H}. "[You can do it|You are stronger than you think]!" called {F}.',
        '"Help me, {H}!" cried {F}. "I am coming," said {H}, [with a shaking voice|but {his} knees shook].',
    ),
    "turn": (
        "{H} held the {o} tight and took a [deep|long] breath. Then {he} [walked|went|ran] [step by step|slowly|bravely] to {F}.",
        "{H} thought of the {adj} {o} and counted to three. {He} ran to {F} and [took a hand|pulled hard].",
    ),
    "twist": (
        "Then they heard a noise and froze. It was only [a cow|an old gate|a sleepy owl]! They both [laughed|giggled].",
        "Then a light came near. It was {A}, [who had been afraid too|who had looked for them]!",
    ),
    "good": (
        "Soon {F} was safe. {H} was not afraid anymore and felt {glad}.",
        "They got home safe. That night {H} gave the {o} to {F}, because {he} did not need it now.",
        "{F} said that {H} was a hero. {H} [smiled|laughed], put the {o} away and felt {glad}.",
    ),
    "bad": (
        "But it was too hard. {F} had to wait until {A} came, and {H} felt {sad}.",
        "They got out, but the {o} was lost in the dark. {H} felt {sad} and could not sleep.",
    ),
    "moral": (
        "{H} learned that being brave means trying even when you are afraid.",
        "That day {H} learned that everyone is afraid of something.",
    ),
}

WARNING: Plot = {
    "start": (
        '{A} gave {H} {ao}. "[Stay close to the house|Do not go near the water|Stay on the path], {H}," said {A}.',
        '{H} had {ao}. "[You may play with it|You may take it along], but [stay on the path|do not go too far|keep away from the mud]," {A} [said|told {him}].',
    ),
    "hint": (
        "{A} said it twice, but {H} was already [at the door|thinking of something else].",
        "{H} promised it, [but {his} eyes were on the {o}|and forgot it at once].",
    ),
    "event": (
        "{H} and {F} went {to_place} to {V}. {W}, and they forgot [the time|the rule].",
        "They {Ved} {at} with the {o}. It was so much fun that they [went too far|forgot the rule].",
        "{F} wanted to {V} {at}. {H} [came along|said yes] and took the {o}.",
    ),
    "fight": (
        '"We should go back," said {F}. "Not yet!" said {H}. They [pulled at the {o}|shouted at each other].',
        "{F} wanted to turn back, but {H} [said no|did not want to]. They [were cross|argued] for a while.",
    ),
    "trouble": (
        "Then the {o} [slipped from {his} hands|fell] and rolled into the mud. {H} went after it and got stuck.",
        "Suddenly {H} [slipped|tripped] and fell into the [mud|cold water] with the {o}.",
        "Then the {o} rolled down to the water. {H} ran after it and fell in.",
    ),
    "talk": (
        '"I should have listened," said {H}. "[I will get help|We must be smart now]," said {F}.',
        '"[Help|Hello]! Is anybody there?" called {H}. "[Hold on|Do not move]!" said {F}.',
    ),
    "turn": (
        "{F} ran [as fast as the wind|home quickly] to get {A}, who came with a [long rope|ladder] and [pulled|got] {H} out.",
        "{F} found a long stick and [held it out|reached far]. {H} [held on|took it], and {F} pulled with all {fhis} might.",
    ),
    "twist": (
        "And there, deep in the mud, they found [an old coin|a lost ring] that {A} had missed for years!",
        "When {A} heard of it, {A} laughed. Long ago, {A} had done the very same thing!",
    ),
    "good": (
        '{H} was safe, and so was the {o}. "I am sorry," said {H}, and {A} gave {him} a hug.',
        "They got home with the {adj} {o}. {H} was {glad} and promised to listen next time.",
    ),
    "bad": (
        "But the {o} was gone for good. {H} walked home {sad}, and nobody said a word.",
        "They came home late, cold and wet. The {o} was broken, and {H} was {sad}.",
    ),
    "moral": (
        "{H} learned that a warning is a kind of love.",
        "From that day on, {H} listened when {A} spoke.",
    ),
}

TREASURE: Plot = {
    "start": (
        "{Day_part}, {F} came with an old [letter|picture]. It showed a way {to_place} and {ao}.",
        "{A} told {H} and {F} about {ao} that was hidden {at} [long ago|many years ago].",
        "{H} had a dream about {ao} {at}. {He} told {F} about it [at once|the next day].",
    ),
    "hint": (
        "A {m} watched them [all the time|from a branch] and seemed to [smile|know something].",
        "{A} smiled as if there was [more to know|one more secret].",
    ),
    "event": (
        "They [set off|started] at once. On the way they {Ved}, and {W}.",
        "They walked {to_place} and {Ved} a little. {W}.",
    ),
    "fight": (
        '"I will keep the {o}!" said {F}. "No, I will!" said {H}. They [stopped walking|turned their backs].',
        "{H} wanted to go left and {F} wanted to go right. They argued until [both were tired|the sun was low].",
    ),
    "trouble": (
        "But there was [nothing|only sand|only a big stone] there. {H} felt {sad} and [sat down|sighed].",
        "{H} [dug and dug|dug here and there], but there was no {o}. {F} [was tired|wanted to give up].",
    ),
    "talk": (
        '"Maybe it is just a story," said {F}. "[Let us try once more|I think it is here]," said {H}.',
        '"Look at this!" said {H}. "The [stone|tree] looks like [an arrow|a hand]!" {F} [clapped|jumped up].',
    ),
    "turn": (
        "Then {H} looked [under a flat stone|between the roots of a tree|behind a wall]. Something [hard|cold|{adj}] [was in the ground|lay there|was hidden there].",
        "{F} [pushed|pulled] a big stone as hard as {fhe} could. Then {H} saw a little box under it.",
    ),
    "twist": (
        "[On top of it|Next to it] lay a note: the [real|best] treasure is [the walk together|the friend next to you]!",
        "A {m} came and [spoke|sang]. It had guarded the {o} for a hundred years!",
    ),
    "good": (
        "It was the {adj} {o}! {H} and {F} [shared it|took turns with it] and felt {glad}.",
        "There was the {o}, [just as they had hoped|and it was beautiful]. {H} was so {glad} that {he} sang.",
    ),
    "bad": (
        "The {o} was there, but it [broke|fell to dust] when {H} touched it. They were both {sad}.",
        "But somebody had taken the {o} long ago. {H} and {F} walked home {sad}.",
    ),
    "moral": (
        "They learned that a day with a friend is a treasure too.",
        "{H} learned that looking together is half the fun.",
    ),
}

RACE: Plot = {
    "start": (
        "{Day_part}, there was a big race {at}. The prize was {ao}, and {H} wanted to win it.",
        "Everyone {at} talked about the race. The winner would get {ao}, [and {H} wanted it very much|and {H} wanted it so much|which {H} liked].",
        "{A} showed them {ao}. It was [the prize|a prize] for the one who could run {to_place} [and back|the fastest].",
    ),
    "hint": (
        "Nobody saw that one shoe of {F} was [open|loose].",
        "{F} had a [small stone in a shoe|sore foot] that day, but said nothing.",
    ),
    "event": (
        "{H} [got ready every day|trained for a week]. When {he} was tired, {he} {Ved} with {F}.",
        "{H} and {F} {Ved} while they waited. {W}. Then everyone [stood in a line|waited for the bell].",
    ),
    "fight": (
        '"I am faster than you," said {H}. "No, I am!" said {F}. They [did not shake hands|looked away].',
        "{H} and {F} both wanted to [stand in front|start first]. They pushed each other and [frowned|were cross].",
    ),
    "trouble": (
        "[Halfway|Near the end], {F} fell down and hurt a knee. {H} was [in front|close to the end] and looked back.",
        "They ran and ran. Then {F} tripped [over a root|on a stone] and [cried out|could not go on].",
    ),
    "talk": (
        '"[Go on|Run] without me!" said {F}. "No, we [run together|are friends]," said {H}.',
        '"Are you hurt?" asked {H}. "[Only a little|It is my foot]," said {F}.',
    ),
    "turn": (
        "{H} [stopped|turned around] and held out a hand. [With {F}, {he}|Together with {F}, {H}] walked to the end [arm in arm|side by side|step by step].",
        "{H} helped {F} to [stand up|get up again]. [Step by step|Slowly], {H} and {F} [went on|walked on] while the others [ran past|raced ahead|ran on].",
    ),
    "twist": (
        "But the race was [only a test|a test], said {A}: the {o} was for [the kindest one|the one with the kindest heart]!",
        "At the end, nobody else was there. All the others had [run the wrong way|followed a {m}]!",
    ),
    "good": (
        '"[You are true friends|What kind friends you are]," said {A} and gave {H} the {o}. {He} was {glad} to share it with {F}.',
        "Everyone clapped for {H} and {F}. {A} gave them the {adj} {o}, and [both felt|{H} felt] {glad}.",
    ),
    "bad": (
        "They came in last, and the {o} went to somebody else. {H} went home {sad}.",
        "But it was too late to win. The {o} was gone, and both of them felt {sad}.",
    ),
    "moral": (
        "{H} learned that a friend is better than a prize.",
        "They learned that winning is not everything.",
    ),
}
