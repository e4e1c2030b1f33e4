"""The command line: `python -m flows <flow or step> <recipe> [model] [dotted.key=value ...]`."""

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module

from flows.failures import ModelsFailed, one_line
from tasks.console import log, speak
from tasks.workspace import VAR

FLOWS = {
    "pipeline": "the whole way, from sources to registered models and a report",
    "pretraining": "ingest, prepare, tokenizer, pretrain",
    "finetuning": "train the specialists from the foundation",
    "auditing": "audit the models",
    "evaluation": "assess the models on held-out data",
    "prompting": "ask the language models by prompt alone, with and without examples",
    "promotion": "decide on the models, register them, move aliases",
    "transfer": "compare specialists with training from scratch, over seeds and shares of their labels",
    "retraining": "measure what moved since the champions were trained, decide what to train again, and do it",
}
STEPS = {
    "ingest": "sources into data/, under DVC",
    "prepare": "clean, deduplicate, scrub, split, check contamination",
    "tokenizer": "train the tokenizer and encode the corpus",
    "pretrain": "train the foundation",
    "adapt": "train the foundation on with the text of a domain",
    "finetune": "train one specialist from the foundation, or from another specialist",
    "scratch": "train one specialist from random weights, the control",
    "assess": "score one model on held-out data",
    "audit": "audit one model",
    "mitigate": "put the mitigations of one model side by side, and keep one",
    "guard": "measure what one model's score may have cost: robustness, forgetting, length, latency",
    "in_context": "ask one language model by prompt alone, with and without examples",
    "promote": "decide on one model and register it",
    "overlap": "look for the items of every set in the text that was learnt from",
    "report": "write the report",
    "cards": "write a card for every model and data set, beside the registered versions",
}
BEFORE = {
    "plan": "what a run will take: time, memory, energy and money, from a measurement of about ten seconds",
    "drift": "what moved since the champions were trained, and what retraining would do, without training",
}
SERVERS = {
    "up": "start the Prefect server, the MLflow server and the deployments",
    "down": "stop what `up` started",
    "deployments": "serve the deployments in the foreground (what `up` starts)",
}
SERVICE = {
    "serve": "answer with every champion over HTTP, and follow the registry; serve --help says how",
}
TERMINAL = {
    "chat": "talk with a model; chat --help says how",
    "compare": "two versions of a model side by side; compare --help says how",
    "fleet": "who descends from whom, who is stale; with --refresh, derive those again",
    "lineage": "where a version comes from, or what a text has gone into; lineage --help says how",
    "approve": "say a person's last word on a version that waits for it; approve --help says how",
    "rollback": "let a model's champion be the version before again; rollback --help says how",
    "export": "write a model as a directory for transformers, lm-eval and vLLM; export --help says how",
}
WHOLE = ("pipeline", "pretraining", "retraining")
"""Flows that take no single model."""


def main(arguments: list[str]) -> int:
    """Run one command; return 0 when done, 2 for bad input, 1 for a failure, 130 for Ctrl-C."""
    if arguments[:1] in (["approve"], ["rollback"]):
        from flows.answers import main as answer

        return answer(arguments)
    if arguments[:1] == ["fleet"]:
        from flows.fleet_tree import main as tree

        return tree(arguments[1:])
    if arguments and arguments[0] in (*TERMINAL, *SERVICE):
        return int(import_module(f"flows.{arguments[0]}").main(arguments[1:]))
    from flows.environment import set_environment

    # Half a million objects of imported modules are none of them garbage: looking seldom saves a twelfth of a run
    # that has nothing to do.
    gc.set_threshold(50_000, 20, 20)
    options = _parser().parse_args(arguments)
    speak()
    set_environment()
    try:
        return _command(options)()
    except KeyboardInterrupt:
        print("stopped; what was finished stays, and the same command goes on from there", file=sys.stderr)
        return 130
    except ModelsFailed as error:
        kept = _keep_traceback()
        for model, said in error.failures.reasons().items():
            print(f"{'error' if error.bad_input else 'failed'}: {model}: {said}", file=sys.stderr)
        print(f"The others are done. The same command tries these again; the traceback is {kept}", file=sys.stderr)
        return 2 if error.bad_input else 1
    except ValueError as error:
        _keep_traceback()
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        # Whatever failed becomes one line for the user; the traceback is kept for whoever looks into it.
        kept = _keep_traceback()
        print(f"failed: {one_line(error)}", file=sys.stderr)
        print(f"The same command resumes with the step that failed; the traceback is {kept}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    def section(title: str, commands: dict[str, str]) -> str:
        return f"{title}:\n" + "\n".join(f"  {name:<12} {help}" for name, help in commands.items())

    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description="Raw text to a foundation language model, and that foundation to many gated specialists.",
        epilog="\n\n".join(
            [
                section("flows (through Prefect)", FLOWS),
                section("steps (the same functions without Prefect; what they need runs first)", STEPS),
                section("before a run", BEFORE),
                section("servers", SERVERS | SERVICE),
                section("in the terminal", TERMINAL),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=[*FLOWS, *STEPS, *BEFORE, *SERVERS], metavar="command", help="see below")
    parser.add_argument("recipe", nargs="?", help="the recipe, recipes/starter.yaml for example")
    parser.add_argument("rest", nargs="*", metavar="model | dotted.key=value", help="a model of the recipe; overrides")
    return parser


def _command(options: argparse.Namespace) -> Callable[[], int]:
    name = options.command
    if name in SERVERS:
        if options.recipe is not None:
            raise ValueError(f"{name}: takes no recipe, got {options.recipe!r}")
        from flows import servers

        return {"up": servers.up, "down": servers.down, "deployments": servers.serve_deployments}[name]
    if options.recipe is None:
        raise ValueError(f"{name}: expected a recipe, recipes/starter.yaml for example")
    from flows.check import ONE_MODEL, checked

    models = [word for word in options.rest if "=" not in word]
    overrides = [word for word in options.rest if "=" in word]
    if len(models) > (name in ONE_MODEL or (name in FLOWS and name not in WHOLE)):
        raise ValueError(f"{models[-1]!r}: expected dotted.key=value, or one model where the command takes one")
    model = models[0] if models else ""
    checked(name, options.recipe, overrides, model)
    if name == "plan":
        from flows.plan import run_plan

        return lambda: run_plan(options.recipe, overrides)
    if name == "drift":
        from flows.retraining import run_drift

        return lambda: run_drift(options.recipe, overrides)
    if name in FLOWS:
        return lambda: _run_flow(name, options.recipe, model, overrides)
    return lambda: _run_step(name, options.recipe, model, overrides)


def _run_flow(name: str, recipe: str, model: str, overrides: list[str]) -> int:
    from flows.embedded import EmbeddedServer

    server = EmbeddedServer() if "PREFECT_API_URL" not in os.environ else None
    from flows.table import print_table

    flow = getattr(import_module(f"flows.{name}"), name)
    arguments = {"recipe": recipe, "overrides": overrides} | ({"model": model} if model else {})
    if server is not None:
        server.wait()
    try:
        receipt = flow(**arguments)
    except ModelsFailed as error:
        if error.report is not None:
            print_table(error.report, recipe)
        raise
    if name in ("pipeline", "retraining") and receipt.step == "report":
        print_table(receipt, recipe)
    return 0


def _run_step(name: str, recipe: str, model: str, overrides: list[str]) -> int:
    from flows.steps import Steps
    from tasks.budget import open_recipe

    receipt = Steps(open_recipe(recipe, overrides)).receipt(name, model)
    log.info("%-24s %s", receipt.step, receipt.directory)
    return 0


def _keep_traceback() -> str:
    """Keep the traceback for whoever looks into it, and say where; a full disk keeps none."""
    path = VAR / "log" / "last-error.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return f"not kept ({error.strerror})"
    return f"in {path}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
