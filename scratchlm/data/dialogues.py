"""Short dialogues and questions with answers."""

from __future__ import annotations

from ..downloads import locate

LANGUAGES = ("english", "chinese")


def dialogues(language: str = "english") -> list[tuple[str, ...]]:
    """The turns of each dialogue, two or more, one speaker after the other.

    English has 2,025, Chinese 467, most of them a question and its answer, ordered by subject.

    Raises:
        ValueError: there is no such language.
        FileNotFoundError: ``scratchlm fetch chatterbot`` was not run.
        ImportError: PyYAML is missing, which reads the files.
    """
    if language not in LANGUAGES:
        raise ValueError(f"dialogues: language={language!r} is none of {', '.join(LANGUAGES)}")
    folder = locate("chatterbot") / language
    try:
        import yaml
    except ImportError:
        raise ImportError(
            "dialogues: the files are YAML; install its reader with: pip install pyyaml"
        ) from None
    found = []
    for path in sorted(folder.glob("*.yml")):
        # every value stays the text that it is, "yes" and "1984" too; nothing is executed
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        # one entry of the English files is no dialogue
        lists = [turns for turns in content["conversations"] if isinstance(turns, list)]
        found += [tuple(turns) for turns in lists if all(isinstance(t, str) for t in turns)]
    return found
