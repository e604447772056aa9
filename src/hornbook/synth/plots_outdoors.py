# ruff: noqa: E501 - one wording a line
"""Six plots of the story world: lost, rescue, brave, warning, treasure, race. Data only.

Keys of a plot: `needs` (uses the object must allow), `start` (brings in the object), `event`, `hint`
(Foreshadowing), `fight` (Conflict), `trouble`, `talk` (Dialogue), `turn`, `twist` (Twist), `good` and
`bad` (BadEnding) endings, `moral` (MoralValue). Slots: see `world.slots`. A sentence that begins with a
pronoun speaks of the subject of the sentence before it: the consistency grader relies on this.
"""

Plot = dict[str, tuple[str, ...]]

LOST: Plot = {
    "start": (
        "{H} had {ao}. {He} [took it everywhere|loved it very much|kept it close all day].",
        "For {his} birthday, {H} got {ao} from {A}. {He} [never let it go|showed it to everyone].",
        "{H} always [carried|brought] {ao}. [It was {his} favorite thing|It made {him} smile].",
    ),
    "event": (
        "{Day_part}, {H} and {F} went {to_place} to {V}. {W}.",
        "{H} and {F} {Ved} {at} [all {part}|until they were tired]. {W}.",
        "They went {to_place} together. {W}, and they {Ved}.",
    ),
    "hint": (
        "{H} did not see the small hole in {his} [pocket|bag].",
        "[But|At home,] {A} had said that {his} bag was [too old|not closed well].",
        "{H} put the {o} down for [just a moment|a little while].",
    ),
    "fight": (
        '{F} wanted to hold the {o}, but {H} said, "No, it is mine!" [They did not talk for a while|{F} looked away].',
        "{H} and {F} [argued about|could not agree] who should carry the {o}[| first]. Both of them [frowned|were cross].",
    ),
    "trouble": (
        "Then {H} looked down. The {o} was gone! {He} felt very {sad}.",
        "When it was time to go home, the {o} was [not there|gone]. {H} began to cry.",
        "Suddenly {H} stopped. {He} [could not find|had lost] the {o}!",
    ),
    "talk": (
        '"[Where|Oh no, where] is my {o}?" asked {H}. "[Do not worry|Do not cry], we will [look|search] together," said {F}.',
        '"I had it [a moment ago|this {part}]," said {H}. "[Then it is close|Then it must be here]," {F} [answered|said].',
        '"Can you help me?" asked {H}. "[Of course|Yes, I can]!" said {F}. "Two pairs of eyes see more than one."',
    ),
    "turn": (
        "They looked [high and low|here and there|everywhere]. At last, {F} saw something {adj} {u}.",
        "{F} [walked back slowly|followed their steps back] and looked {u}. Something {adj} was there.",
        "They searched [behind every tree|all around] until {F} [pointed|called]. There was something {u}.",
    ),
    "twist": (
        "But it was not alone: a tiny {m} was [sleeping on it|sitting right next to it]!",
        "To their surprise, a {m} had [taken it for its nest|carried it there].",
    ),
    "good": (
        "It was the {o}! {H} hugged {F} and felt {glad} again.",
        "It was the {adj} {o}! {H} [held it tight|danced with joy], and they walked home [together|side by side].",
        "The {o} was safe. {H} [thanked|hugged] {F}, and both of them went home {glad}.",
    ),
    "bad": (
        "But it was only [a piece|a part] of the {o}. It was broken, and {H} went home {sad}.",
        "But it was not the {o}. Night came, and {H} never saw the {adj} {o} again.",
        "But before they could reach it, the [wind|water] took the {o} away. {H} cried all the way home.",
    ),
    "moral": (
        "{H} learned to take good care of the things {he} loved.",
        "From then on, {H} knew that a good friend helps you look.",
    ),
}

RESCUE: Plot = {
    "start": (
        "{Day_part}, {H} [packed|carried] {ao} and went {to_place} with {F}. {W}.",
        "{H} had {ao} in {his} bag. {F} wanted to {V}, so they went {to_place}.",
        "{W}. {H} took {ao} along, and {F} came too.",
    ),
    "event": (
        "While they were {Ving}, they heard a [small|soft|strange] sound {u}.",
        "They {Ved} for a while. Then {F} heard [a tiny cry|something] {u}.",
        "[Soon|After a while], they stopped {Ving}. Someone was crying {u}.",
    ),
    "hint": (
        "All {part}, a bird [circled above them|called again and again], as if it wanted to say something.",
        "There were tiny footprints on the path, but nobody [looked at|saw] them.",
    ),
    "fight": (
        "{F} was afraid and wanted to go home, but {H} wanted to stay. They [argued|talked loudly] for a moment.",
        '"[Leave it|It is not our problem]," said {F}. {H} shook {his} head and got cross.',
    ),
    "trouble": (
        "It was a little {m}! It [was stuck|had hurt its leg|was cold and hungry] and could not [move|get home].",
        "A small {m} [sat there alone|looked up at them]. It was [lost|hurt|very tired].",
    ),
    "talk": (
        '"Poor little {m}," said {H}. "[We will help you|Do not be afraid]."',
        '"What can we do?" asked {F}. "[I know|I have an idea]!" said {H}. "We can use my {o}."',
        '"Please help me," said the {m}. {H} [nodded|smiled]. "We will," {he} said.',
    ),
    "turn": (
        "{H} used the {o} to make a [soft bed|safe place] for the {m}. {F} [brought water|found some food].",
        "Slowly, {H} [held out|pushed] the {o} so that the {m} could climb onto it.",
        "{H} put the {m} [next to|close to] the {o}, and {F} [kept it warm|sang to it].",
    ),
    "twist": (
        "Then the {m} began to speak! It was [the queen of all the {m} folk|a magic {m}], and it [bowed|laughed].",
        "Suddenly, [ten|a hundred] more of its family came out. They had been looking for it all day!",
    ),
    "good": (
        "[Soon|By evening], the {m} was well again. It [thanked them|danced around them], and {H} felt {glad}.",
        "The {m} went home safe. {H} and {F} [waved|smiled] and felt {glad}.",
        "From that day, the {m} was their friend. {H} let it sleep near the {adj} {o}.",
    ),
    "bad": (
        "But the {m} ran away with fear, and the {o} fell into the water. {H} felt {sad}.",
        "But they came too late. The {m} was gone, and {H} went home {sad} with the {o}.",
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
    "event": (
        "{Day_part}, {F} asked {H} to {V} {at}. {W}.",
        "{H} and {F} {Ved} {at} [all {part}|until late]. {W}.",
    ),
    "hint": (
        "Far away, something [rumbled|growled], but nobody [listened|cared].",
        "The sky [was darker than before|began to change its color], and the birds [were quiet|flew home].",
    ),
    "fight": (
        '{F} laughed and said, "You are too scared!" That made {H} [angry|want to go home].',
        "{F} wanted to go on, and {H} wanted to go back. Neither of them would [give in|listen].",
    ),
    "trouble": (
        "Suddenly it [became very dark|grew black all around]. {F} [fell into a hole|was stuck] {u} and called for help.",
        "Then a [big storm|loud storm] came. {F} [slipped|fell] and could not get up.",
    ),
    "talk": (
        '"[I am scared|I cannot do it]," whispered {H}. "[You can do it|You are stronger than you think]!" called {F}.',
        '"Help me, {H}!" cried {F}. "I am coming," said {H}, [with a shaking voice|but {his} knees shook].',
    ),
    "turn": (
        "{H} held the {o} tight and took a deep breath. Then {he} [walked|went] step by step to {F}.",
        "{H} thought of the {adj} {o} and counted to three. {He} ran to {F} and [took a hand|pulled hard].",
    ),
    "twist": (
        "The scary noise was only [a cow|an old gate|a sleepy owl]! They both [laughed|giggled].",
        "Then a light came near. It was {A}, [who had been afraid too|who had looked for them]!",
    ),
    "good": (
        "Soon {F} was safe. {H} was not afraid anymore and felt {glad}.",
        "They got home safe. That night {H} gave the {o} to {F}, because {he} did not need it now.",
        "{F} said that {H} was a hero. {H} [smiled|laughed], put the {o} away and felt {glad}.",
    ),
    "bad": (
        "But {H} was too scared and ran home. {F} had to wait until morning, and {H} felt {sad}.",
        "They got out, but the {o} was lost in the dark. {H} [cried|felt {sad}] and could not sleep.",
    ),
    "moral": (
        "{H} learned that being brave means doing it even when you are afraid.",
        "That day {H} learned that courage grows when a friend needs you.",
    ),
}

WARNING: Plot = {
    "start": (
        '{A} gave {H} {ao}. "[Stay close to the house|Do not go near the water|Be home before dark]," said {A}.',
        '{H} had {ao}. "You may play with it, but [stay on the path|do not climb too high]," said {A}.',
    ),
    "event": (
        "{H} and {F} went {to_place} to {V}. {W}, and they [forgot the time|forgot the rule].",
        "They {Ved} {at} with the {o}. It was so much fun that they [went too far|did not look back].",
        "{F} wanted to {V} {at}. {H} [came along|said yes] and took the {o}.",
    ),
    "hint": (
        "{H} thought about the words of {A} for a moment, [then shook {his} head|but only for a moment].",
        "A sign on the way said: STOP. They [ran past it|could not read it].",
    ),
    "fight": (
        '"We should go back," said {F}. "Not yet!" said {H}. They [pulled at the {o}|shouted at each other].',
        "{F} wanted to turn back, but {H} [said no|did not want to]. They [were cross|argued] for a while.",
    ),
    "trouble": (
        "Then the {o} [slipped from {his} hands|fell] and rolled into the mud. {H} went after it and got stuck.",
        "Suddenly {H} [slipped|tripped]. The {o} flew away and landed [in the water|in a high tree].",
        "Soon they did not know the way home. {H} held the {o} and [began to shake|wanted to cry].",
    ),
    "talk": (
        '"I should have listened," said {H}. "[Let us call for help|We must be smart now]," said {F}.',
        '"[Help|Hello]! Is anybody there?" they called. "[I hear you|I am coming]!" answered {A}.',
    ),
    "turn": (
        "{F} ran as fast as the wind to get {A}. Soon {A} came with a [long rope|bright light].",
        "{F} found a long stick and [held it out|reached far]. {H} [held on|took it] and pulled with all {his} might.",
    ),
    "twist": (
        "[Then {A} laughed|{A} began to smile]. Long ago, {A} had done the very same thing!",
        "And there, [under the mud|in the dark], they found [an old coin|a lost ring] that {A} had missed for years.",
    ),
    "good": (
        '{H} was safe, and so was the {o}. "I am sorry," said {H}, and {A} gave {him} a hug.',
        "They got home with the {adj} {o}. {H} was {glad} and promised to listen next time.",
    ),
    "bad": (
        "But the {o} was gone for good. {H} walked home {sad}, and nobody said a word.",
        "They came home late, cold and wet. The {o} was broken, and {H} was very {sad}.",
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
    "event": (
        "They [set off|started] at once. On the way they {Ved}, and {W}.",
        "They walked {to_place} and {Ved} a little. {W}.",
    ),
    "hint": (
        "A {m} watched them [all the time|from a branch] and seemed to [smile|know something].",
        "In the picture there was also a small {m}, but they did not [think about|notice] it.",
    ),
    "fight": (
        '"I will keep the {o}!" said {F}. "No, I will!" said {H}. They [stopped walking|turned their backs].',
        "{H} wanted to go left and {F} wanted to go right. They argued until [both were tired|the sun was low].",
    ),
    "trouble": (
        "But there was [nothing|only sand|only a big stone] there. {H} felt {sad} and sat down.",
        "They dug and dug, but they did not find the {o}. {F} [was tired|wanted to give up].",
    ),
    "talk": (
        '"Maybe it is just a story," said {F}. "[Let us try once more|I think it is here]," said {H}.',
        '"Look at this!" said {H}. "The [stone|tree] looks like [an arrow|a hand]!" {F} [clapped|jumped up].',
    ),
    "turn": (
        "Then {H} looked {u}. Something [hard|cold|{adj}] was in the ground.",
        "{F} [pushed|pulled] as hard as {fhe} could. Then {H} saw a little box {u}.",
    ),
    "twist": (
        "On top of it lay a note: the real treasure was [the walk together|the friend next to you]!",
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
        "They learned that you should not give up too soon.",
        "{H} learned that looking together is half the fun.",
    ),
}

RACE: Plot = {
    "start": (
        "{Day_part}, there was a big race {at}. The prize was {ao}.",
        "Everyone {at} talked about the race. The winner would get {ao}, and {H} wanted it [very much|so much].",
        "{A} showed them {ao}. It was for the one who could run {to_place} [and back|the fastest].",
    ),
    "event": (
        "{H} [got ready every day|trained for a week]. {He} {Ved} to become strong, and {F} helped.",
        "{H} and {F} {Ved} in the morning. Then everyone [stood in a line|waited for the bell], and {W}.",
    ),
    "hint": (
        "{H} did not see that one of {his} shoes was [open|loose].",
        "{F} had a [small stone in a shoe|sore foot] that day, but said nothing.",
    ),
    "fight": (
        '"I am faster than you," said {H}. "No, I am!" said {F}. They [did not shake hands|looked away].',
        "{H} and {F} both wanted to [stand in front|start first]. They pushed each other and [frowned|got cross].",
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
        "{H} [stopped|turned around] and held out a hand. They walked to the end [arm in arm|side by side].",
        "{H} helped {F} to stand up. Step by step, they went on while the others [ran past|raced ahead].",
    ),
    "twist": (
        "But the race was a test! The prize was for the one with the kindest heart.",
        "At the end, nobody else was there. All the others had [run the wrong way|followed a {m}]!",
    ),
    "good": (
        "{A} smiled and gave them the {o}. {H} was {glad} to share it with {F}.",
        "Everyone clapped. {H} got the {adj} {o}, and {F} got [a big hug|a warm drink].",
    ),
    "bad": (
        "They were the last, and the {o} went to somebody else. {H} went home {sad}.",
        "But {H} did not stop and ran on. {He} won the {o} and lost a friend, and felt {sad}.",
    ),
    "moral": (
        "{H} learned that a friend is better than a prize.",
        "They learned that winning is not everything.",
    ),
}
