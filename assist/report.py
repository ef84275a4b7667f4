"""The output of commands: findings, the phases of a start, and the settings for clients."""

import json
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assist import probe
from assist.deployment import Deployment
from assist.findings import Finding, document, exit_status
from assist.terminal import out

PHASES = (
    "bootstrap", "preflight", "environments", "model", "trial", "triton", "gateway", "supervisor", "verify",
)  # fmt: skip
_MARKS = {
    "ok": "[green]ok[/]",
    "warning": "[yellow]warning[/]",
    "problem": "[red]problem[/]",
    "unknown": "[yellow]unknown[/]",
}


def phase_table(seconds: dict[str, float], total: float) -> Table:
    """Return the table of phases; the time outside every phase is Ansible's own."""
    table = Table("phase", "seconds", title="Where the time went", title_justify="left")
    table.columns[1].justify = "right"
    for phase in PHASES:
        table.add_row(phase, f"{seconds.get(phase, 0.0):.1f}")
    table.add_row(
        "Ansible itself", f"{max(0.0, total - sum(seconds.get(phase, 0.0) for phase in PHASES)):.1f}"
    )
    table.add_section()
    table.add_row("total", f"{total:.1f}")
    return table


def findings_table(findings: list[Finding]) -> Table:
    """Return the table of findings, each with its cause and remedy."""
    table = Table("check", "status", "cause", "remedy", show_lines=False)
    for finding in findings:
        table.add_row(finding.id, _MARKS[finding.status], finding.cause, finding.remedy)
    return table


def finish(findings: list[Finding], *, as_json: bool) -> NoReturn:
    """Print the findings and exit with their status."""
    if as_json:
        typer.echo(json.dumps(document(findings), indent=1))
    else:
        out.print(findings_table(findings))
    raise typer.Exit(exit_status(findings))


def finish_diagnosis(findings: list[Finding], *, as_json: bool) -> NoReturn:
    """Print what the doctor found, root causes first, and exit with its status."""
    if as_json:
        typer.echo(json.dumps(document(findings), indent=1))
        raise typer.Exit(exit_status(findings))
    for finding in findings:
        if finding.status != "ok":
            _show_finding(finding)
    good = [f"{finding.id}{f' ({finding.host})' if finding.host else ''}" for finding in findings
            if finding.status == "ok"]  # fmt: skip
    if good:
        out.print(f"[green]ok[/]: {', '.join(good)}", highlight=False)
    raise typer.Exit(exit_status(findings))


def _show_finding(finding: Finding) -> None:
    place = " ".join(filter(None, (finding.host, finding.where)))
    out.print(
        f"{_MARKS[finding.status]} [bold]{finding.fault or finding.id}[/] {escape(place)}", highlight=False
    )
    rows = {
        "cause": finding.cause, "since": finding.since, "evidence": finding.evidence, "mend": finding.remedy,
        "runbook": finding.runbook,
        "follows": "; ".join(_symptom(symptom) for symptom in finding.symptoms),
    }  # fmt: skip
    for name, text in rows.items():
        if text:
            out.print(f"  {name:<9}{text}", highlight=False, markup=False, soft_wrap=True)
    out.print()


def _symptom(finding: Finding) -> str:
    place = " ".join(filter(None, (finding.host, finding.where)))
    return f"{finding.fault} ({place})" if place else finding.fault


def show_completion(console: Console, completion: probe.Completion) -> None:
    """Print the code with the model's part between marks, and how long it took."""
    console.print(
        f"\nA completion through the gateway: {completion.tokens} tokens in {completion.seconds:.2f} s "
        f"({completion.tokens_per_second:.0f} tokens/s). The model wrote what is between » and «:",
        highlight=False,
        soft_wrap=True,
    )
    console.out(f"{probe.PROMPT}»{completion.text}«{completion.suffix}".rstrip(), highlight=False)


def show_service(console: Console, deployment: Deployment, key: str | None) -> None:
    """Print the settings for clients. Long lines stay whole, so that they can be pasted."""
    console.print(f"\nURL  {deployment.url}", highlight=False)
    if key:
        console.print(f"Key  {key}", highlight=False, soft_wrap=True)
        console.print(
            f"Both are in {deployment.layout.client_env} (mode 0600).", highlight=False, soft_wrap=True
        )
    console.print("\nTry it:", highlight=False)
    console.out(curl(deployment, key), highlight=False)
    console.print("\nVS Code, settings.json (for the extension Fauxpilot, or for Copilot's own override):")
    console.out(json.dumps(editor_settings(deployment, key), indent=2), highlight=False)


def curl(deployment: Deployment, key: str | None) -> str:
    """Return a shell command that makes a completion."""
    authorization = f" -H 'Authorization: Bearer {key}'" if key else ""
    # The code of the completion has no quote, which would end the shell's.
    body = json.dumps(probe.completion_request(deployment))
    url, media = f"{deployment.url}/v1/completions", "-H 'Content-Type: application/json'"
    return f"curl -s {url}{authorization} {media} -d '{body}'"


def editor_settings(deployment: Deployment, key: str | None) -> dict[str, Any]:
    """Return VS Code's settings: the extension Fauxpilot (by Venthe), and Copilot's advanced override."""
    return {
        "fauxpilot.enabled": True,
        "fauxpilot.server": f"{deployment.url}/v1/engines",
        "fauxpilot.engine": "codegen",
        **({"fauxpilot.token": key} if key else {}),
        "github.copilot.advanced": {
            "debug.overrideEngine": "codegen",
            "debug.testOverrideProxyUrl": deployment.url,
            "debug.overrideProxyUrl": deployment.url,
        },
    }
