"""``python -m safekit_py`` is the command ``safekit-py``."""

from safekit_py.cli.main import main

if __name__ == "__main__":
    main()
