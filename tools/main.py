"""The `hearloop` command: one verb per module."""

import argparse
import importlib
import sys
from importlib.metadata import version

# Help texts stand here so that `hearloop --help` need not import what the verbs need.
VERBS = {
    "live": "microphone to headphones, in real time",
    "process": "process files or folders",
    "enroll": "get to know a voice from a look at somebody who speaks",
    "profiles": "list, rename or delete enrolled voices",
    "demo": "ten seconds of the real-time loop over a bundled recording",
    "models": "list the models that ship with hearloop",
    "inspect": "show what a model file says about itself",
    "compile": "turn a streaming ONNX model into machine code, and keep it",
    "profile": "measure real time: will a model hold, and where does the time go?",
    "devices": "list sound devices",
    "doctor": "check that this machine can run hearloop in real time",
    "train": "train a model on folders of speech and noise",
    "average": "make one training checkpoint of several, by the mean of their weights",
    "evaluate": "measure the quality of models on a fixed validation set",
    "export": "turn a training checkpoint into a bundle",
}

# The extra that brings a package which a verb may miss.
EXTRAS = {
    "torch": "train",
    "lightning_fabric": "train",
    "onnxscript": "train",
    "h5py": "train",
    "tomli": "train",
    "joblib": "cluster",
    "pesq": "eval",
    "pystoi": "eval",
    "speechmos": "eval",
    "matplotlib": "plot",
}


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser of the command; only the verb that is asked for is imported."""
    parser = argparse.ArgumentParser(prog="hearloop", description="Real-time hearing runtime.")
    parser.add_argument("--version", action="version", version=f"hearloop {version('hearloop')}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        sentence = text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")
        subparser = verbs.add_parser(name, help=text, description=sentence)
        if name == verb:
            module = importlib.import_module(f"{__package__}.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status. Errors that hearloop knows are one line on standard error."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    # Imported here, where Ctrl-C is caught.
    from ..runtime.errors import HearloopError

    verb = next((word for word in arguments if not word.startswith("-")), None)
    try:
        options = build_parser(verb).parse_args(arguments)
        return options.run(options)
    except HearloopError as error:
        print(f"hearloop: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"hearloop: {error.name} is not installed; `pip install hearloop[{extra}]` adds it", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has gone; there is nobody left to tell
        return 1
    except OSError as error:  # what cannot be read or written; the error names it
        print(f"hearloop: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
