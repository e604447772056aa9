# ruff: noqa: E501 - one field a line
"""The seed list of phi-1.5's topics: subjects by field, and the angles from which each is seen. Data only."""

from collections.abc import Mapping

FIELDS: Mapping[str, str] = {
    "the body": "sleep, hunger, breathing, the heart, bones, skin, eyes, ears, teeth, hands, muscles, memory, pain, growing up, getting old",
    "food": "bread, milk, eggs, rice, salt, sugar, fruit, soup, cooking, baking, freezing, spoiling, spices, a kitchen, a shared meal",
    "animals": "dogs, cats, birds, fish, bees, ants, cows, horses, wolves, whales, spiders, frogs, nests, hibernation, migration",
    "plants": "seeds, roots, leaves, flowers, trees, grass, mushrooms, moss, pollen, a garden, a forest, a desert plant, harvest, weeds, compost",
    "weather": "rain, snow, wind, fog, thunder, clouds, frost, heat, drought, a storm, a rainbow, the seasons, dew, ice, a forecast",
    "earth": "rivers, mountains, islands, volcanoes, caves, soil, sand, tides, earthquakes, deserts, glaciers, maps, the horizon, springs, minerals",
    "sky": "the sun, the moon, stars, planets, comets, eclipses, day and night, gravity, orbits, telescopes, light years, meteors, the north star, rockets, satellites",
    "materials": "glass, iron, wood, paper, cloth, rubber, stone, clay, plastic, wax, gold, leather, concrete, rope, glue",
    "tools": "hammers, saws, levers, pulleys, wheels, screws, scissors, knives, needles, scales, clocks, compasses, pumps, locks, ladders",
    "machines": "bicycles, cars, trains, ships, planes, engines, batteries, motors, lamps, telephones, cameras, elevators, washing machines, printers, robots",
    "water": "boiling, melting, floating, sinking, dissolving, evaporation, pressure, waves, wells, dams, pipes, bridges, swimming, boats, thirst",
    "light and sound": "shadows, mirrors, colours, lenses, echoes, pitch, loudness, music, silence, fire light, reflection, glow, vibration, a whistle, a drum",
    "numbers": "counting, adding, sharing equally, fractions, percentages, measuring, estimating, averages, ratios, zero, negative numbers, primes, rounding, codes, graphs",
    "shapes": "circles, triangles, squares, angles, symmetry, area, volume, spirals, patterns, tiling, scale models, coordinates, knots, mirrors in geometry, paths",
    "chance and logic": "coins, dice, guesses, evidence, contradictions, if and only if, causes, coincidence, proofs, puzzles, riddles, rules, exceptions, examples, counterexamples",
    "computers": "a program, a loop, a variable, a bug, a list, sorting, searching, memory, files, the internet, passwords, messages, backups, a robot's plan, a spreadsheet",
    "feelings": "joy, anger, fear, shame, pride, envy, boredom, surprise, grief, hope, trust, jealousy, calm, homesickness, relief",
    "people together": "promises, sharing, lies, apologies, gifts, quarrels, teamwork, leaders, strangers, neighbours, manners, turns, secrets, jokes, forgiveness",
    "home": "cleaning, beds, windows, doors, stoves, heating, repairs, pets, chores, budgets, guests, moving house, storage, a leaking tap, a power cut",
    "school and work": "questions, homework, exams, practice, mistakes, teachers, plans, deadlines, meetings, a first job, wages, tools of a trade, learning by doing, reading, notes",
    "towns": "markets, roads, buses, libraries, hospitals, parks, fire brigades, post, rubbish, street lights, traffic, bridges, shops, rents, festivals",
    "money": "prices, change, saving, borrowing, interest, trade, taxes, insurance, auctions, contracts, tips, poverty, bargains, receipts, coins",
    "history": "writing, farming, wheels, kings, trade routes, printing, steam, sailing, calendars, cities, votes, museums, letters, sickness, maps of old",
    "health": "washing hands, fever, cuts, medicine, exercise, diets, vaccines, glasses, rest, allergies, poison, first aid, worry, doctors, habits",
    "language": "words, names, spelling, stories, poems, metaphors, translation, questions, accents, sign language, dictionaries, headlines, letters to a friend, rumours, instructions",
}  # fmt: skip
ANGLES = (
    "what it is", "what it is made of", "how it works", "how it begins", "how it ends", "what it is good for",
    "why it matters", "what could go wrong", "how to tell it from something like it", "what happens without it",
    "what happens when there is too much of it", "what people used to believe about it", "how to explain it to a child",
    "a question that people often ask about it", "a mistake that people often make about it", "how to measure it",
    "how it changes with time", "how it changes with the place", "how it is connected with something else",
    "what one can see of it", "what cannot be seen of it", "a day on which it went well", "a day on which it went badly",
    "two people who see it differently", "how to choose well", "how to do it step by step", "how to repair it",
    "how to share it", "what it costs", "what it needs", "who takes care of it", "where it comes from",
    "where it goes", "how big it is", "how fast it is", "how long it lasts", "what it does to others",
    "what others do to it", "how it feels", "how to test what is said of it", "a small experiment with it",
    "what one should never do with it", "a rule for it and its exceptions", "a comparison that helps",
    "what follows if it is true", "what would have to be true for it to happen", "an example from work",
    "an example from home", "an example from nature", "the first thing to learn about it", "the hardest thing about it",
    "how an expert thinks of it", "a story that shows it",
)  # fmt: skip
