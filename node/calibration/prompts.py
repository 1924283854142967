"""Many different prompts of about 64 tokens, without a download.

Topics, tasks and manners of answering are combined; a fixed permutation spreads all three, so that
any stretch of the list is diverse and any two stretches share no prompt.
"""

from __future__ import annotations

import random

from pipeline.models.errors import InvalidModel
from pipeline.models.tokenizer import ChatTokenizer

TOPICS = (
    "the tides", "photosynthesis", "the printing press", "glaciers", "compound interest",
    "sourdough bread", "the French Revolution", "black holes", "beekeeping", "chess openings",
    "antibiotics", "the Silk Road", "earthquakes", "public libraries", "jazz music",
    "electric motors", "the immune system", "river deltas", "Roman roads", "sleep",
    "solar panels", "the periodic table", "vaccination", "bicycles", "coral reefs",
    "the Great Fire of London", "inflation", "migrating birds", "bridges", "tea ceremonies",
    "volcanoes", "the steam engine", "probability", "olive oil", "lighthouses",
    "the human heart", "desert plants", "sailing ships", "opera", "recycling",
    "the moon landing", "mushrooms", "railway timetables", "memory", "the Arctic fox",
    "radio waves", "haiku", "wool", "fermentation", "city planning",
    "whales", "prime numbers", "the Inca empire", "headaches", "lightning",
    "book binding", "rice farming", "satellites", "friendship", "honey",
    "marathon running", "the stock market", "dinosaurs", "glass making", "encryption",
    "weather forecasts", "stage fright", "volcanic islands", "cheese", "the Vikings",
)  # fmt: skip
TASKS = (
    "Write a short lecture about {}",
    "Explain to a curious twelve-year-old what is most surprising about {}",
    "Tell a story in which {} plays the leading part",
    "Describe a day in the life of somebody whose work has to do with {}",
    "List the most common misunderstandings about {} and correct each of them",
    "Write a dialogue between two old friends who disagree about {}",
    "Give a step-by-step introduction to {}",
    "Compare what people believed about {} three hundred years ago with what they believe today",
    "Write a letter to the editor of a newspaper about {}",
    "Plan a museum exhibition about {}",
    "Draft an encyclopaedia entry on {}",
    "Imagine an interview with an expert on {}",
    "Write the opening chapter of a novel set in a world obsessed with {}",
    "Prepare ten quiz questions about {} with their answers",
    "Argue why schools should spend more time on {}",
    "Write a travel report in which {} comes up again and again",
)
MANNERS = (
    "Use plain words and give at least two concrete examples along the way.",
    "Be precise, mention numbers where you can, and end with a summary.",
    "Keep a light and humorous tone, but do not say anything false.",
    "Write in long and flowing sentences, as an essayist of the past would.",
    "Begin with a question and come back to it at the very end.",
)
SEED = 20


def prompt_texts(count: int, offset: int = 0) -> list[str]:
    """Prompts number `offset` to `offset + count`. Raises ValueError beyond the last one."""
    combinations = [
        (topic, task, manner) for topic in TOPICS for task in TASKS for manner in MANNERS
    ]
    random.Random(SEED).shuffle(combinations)
    if offset + count > len(combinations):
        raise ValueError(f"there are {len(combinations)} prompts, not {offset + count}")
    return [
        f"{task.format(topic)}. {manner}"
        for topic, task, manner in combinations[offset : offset + count]
    ]


def encode_prompt(tokenizer: ChatTokenizer, text: str, longest: int) -> tuple[int, ...]:
    """Ids of a chat with one message, or of the plain text where the model has no chat template; of
    a longer prompt the last `longest`."""
    try:
        ids = tokenizer.encode_chat([{"role": "user", "content": text}])
    except InvalidModel:
        ids = tokenizer.encode(text)
    return tuple(ids[-longest:])
