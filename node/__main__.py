"""`python -m node` is `prime-node`."""

from node.cli import main

if __name__ == "__main__":
    main()
