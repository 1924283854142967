"""`python -m node` is `prime-node`."""

from prime_node import main

if __name__ == "__main__":
    main()
