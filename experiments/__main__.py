"""The command line of the experiments.

python -m experiments                        runs the suite of the preset `quick`
python -m experiments list                   lists the experiments
python -m experiments NAME --help            shows an experiment's settings
python -m experiments NAME --field value     runs one
python -m experiments NAME NAME              runs some
python -m experiments compare RUN_A RUN_B    what differs between two folders of results
python -m experiments book                   builds the book, DIR/book/index.html
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command in this process; its exit status."""
    try:
        from experiments.framework import command

        return command.main(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("experiments", "functional_dl")):  # a missing file of ours
            raise
        sys.exit(f"experiments need {error.name}; install it with: pip install 'functional_dl[experiments]'")


if __name__ == "__main__":
    from experiments.framework import supervisor

    if supervisor.watched():
        supervisor.follow()
        sys.exit(main())
    sys.exit(supervisor.run(sys.argv[1:]))
