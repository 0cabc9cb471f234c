"""``python -m scratchlm`` is the command ``scratchlm``."""

from .cli import main

if __name__ == "__main__":
    main()
