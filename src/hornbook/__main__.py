"""`python -m hornbook`: the command line, for `torchrun -m hornbook run ...`."""

from hornbook.cli import main

main()
