"""`lab demo`: the whole loop on an embedded default, without a network."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from cli import console
from cli.fetch import fetch_into_store
from cli.report import write_page
from cli.train import run_experiment

PARTS = ("synthetic.toml", "sp500.toml")


def demo(as_json: console.Json = False) -> None:
    """Fetch, compute, learn and report: on made-up markets with a known edge, and on real daily history."""
    from lab import findings
    from lab.experiment import Experiment
    from lab.sources import Request, source_named

    results: list[dict[str, Any]] = []
    for name in PARTS:
        path = _example(name)
        experiment = Experiment.load(path)
        wanted = experiment.data
        request = Request(tuple(wanted.symbols), wanted.interval, wanted.opens)
        list(fetch_into_store(source_named(wanted.source), wanted.source, request))
        run, _ = run_experiment(experiment, str(path), walk_forward=True, workers=1)
        evidence = findings.weigh(Path(), run)
        results.append(
            {
                "name": experiment.name,
                "real": experiment.data.source != "synthetic",
                "run": run.id,
                "planted": run.manifest["planted"],
                "evidence": evidence,
                "page": str(write_page(run)),
            }
        )
    console.result(results, as_json, lambda: _show(results))


def _example(name: str) -> Path:
    """The experiment in the working folder, put there first if it is not."""
    from lab.files import write_atomically

    path = Path("experiments") / name
    if not path.exists():
        write_atomically(path, files("cli.examples").joinpath(name).read_bytes())
    return path


def _show(results: list[dict[str, Any]]) -> None:
    for result in results:
        evidence, planted = result["evidence"], result["planted"]
        console.line("")
        console.line(f"{result['name']} — {'REAL history' if result['real'] else 'SYNTHETIC: made-up markets'}")
        if planted:
            console.line(f"  planted: {planted['what']}")
            console.line(
                f"  correlation of forecast and outcome: {planted['found_correlation']:.3f} found, "
                f"{planted['best_correlation']:.3f} is the best there is"
            )
            console.line(
                f"  return under the same policy and costs: {planted['found_return']:.1%} found, "
                f"{planted['best_return']:.1%} with the best forecast"
            )
        confidence = console.percent(evidence["dsr"])
        console.line(f"  {evidence['verdict']} (deflated Sharpe ratio {confidence}, trials: {evidence['trials']})")
        for reason in evidence["reasons"]:
            console.line(f"    {reason}")
        console.line(f"  net return {evidence['total_return']:.1%}; holding: {evidence['holding']['total_return']:.1%}")
        console.line(f"  {result['page']}")
