"""Fairlead's main job on a stage of network namespaces: nothing of this machine's own network is touched.

A node with an agent, a host outside it, two networks, four containers that run real servers; then a lab, in which two nodes
share a network. Every line shown is really run, every table is measured, and the pictures are drawn from what agents say.
Takes some twenty seconds and cleans up.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from rich.table import Table
from stage import FAIRLEAD, MACHINE, NODE, OUTSIDE, Stage, console, title

CONTAINERS = {
    "web": "--network front -p 8080:80 --label app=web",
    "api": "--network front --network back --label app=api",
    "db": "--network back --label app=db",
    "guest": "--label app=guest",
}
SERVER = "python3 -m http.server 80 --bind ::"


def main() -> None:
    """Every scene, in order."""
    with Stage() as stage:
        began = time.monotonic()
        networks(stage)
        containers(stage)
        reach(stage)
        publish(stage)
        leave(stage)
        heal(stage)
        outlive(stage)
        picture(stage)
        two_nodes(stage)
        console.print(f"[dim]All of this ran in {time.monotonic() - began:.0f} s and is being removed again.[/]\n")


def networks(stage: Stage) -> None:
    """Bring up the agent, create two networks."""
    title(
        1,
        "One agent, two networks",
        why="The agent keeps its objects in an embedded store; a default network is there at once.",
    )
    stage.fairlead("up")
    stage.fairlead("network create front --subnet 10.1.0.0/24 --subnet fd01::/64")
    stage.fairlead("network create back --subnet 10.2.0.0/24 --internal")
    stage.fairlead("network ls")


def containers(stage: Stage) -> None:
    """Start four."""
    title(2, "Four containers", why="Each a network namespace of its own running a real server; the API is on both networks.")
    for name, options in CONTAINERS.items():
        stage.fairlead(f"run -d --name {name} {options} -- {SERVER}")
    stage.fairlead("ps")


def reach(stage: Stage) -> None:
    """Ask everybody from everybody."""
    title(3, "Who reaches whom", why="Measured: a TCP connection from every container to every address of every other.")
    at = addresses(stage)
    table = Table("from \\ to", *(f"{name}\n[dim]{network}[/]" for name, network in at), header_style="bold")
    for source in CONTAINERS:
        row = [asked(stage, source, name, address) for (name, _), address in at.items()]
        table.add_row(f"[bold]{source}[/]", *row)
    console.print(table)
    console.print(
        "[dim]Networks are isolated from one another by default; the API, on both, is the only way from front to back.[/]"
    )


def publish(stage: Stage) -> None:
    """Reach the published port."""
    title(4, "A published port, from outside", why=f"{OUTSIDE} is another host; the node is {NODE}.")
    command = ["curl", "-sS", "-m", "3", "-o", "/dev/null", "-w", "HTTP %{http_code} from %{remote_ip}:%{remote_port}\\n"]
    url = f"http://{NODE}:8080/"
    stage.type(stage.outside, f"curl {url}", [*command, url])
    stage.type(stage.node, "curl http://127.0.0.1:8080/", [*command, "http://127.0.0.1:8080/"])
    stage.fairlead("logs web")
    console.print(
        "[dim]The server sees the outside host's own address; only what comes from the node itself has the gateway's.[/]"
    )


def leave(stage: Stage) -> None:
    """See source NAT from outside."""
    title(5, "What the outside sees of a container", why="Source NAT: a server outside prints who asked it.")
    stage.start(stage.outside, "python3", "-c", WHO)
    eventually(lambda: stage.on(stage.node, "curl", "-sf", "-m", "1", f"http://{OUTSIDE}:9000/").returncode == 0)
    stage.fairlead(f"exec guest -- curl -s -m 3 http://{OUTSIDE}:9000/")
    console.print(f"[dim]The guest is {addresses(stage)['guest', 'default']}; the outside sees the node, {NODE}.[/]")


def heal(stage: Stage) -> None:
    """Break it and time the repair."""
    title(
        6, "Somebody breaks it", why="The desired state and the kernel are compared at every event; what differs is put back."
    )
    for what, command in (
        ("nft flush ruleset", ["nft", "flush", "ruleset"]),
        ("ip link delete fl-front", ["ip", "link", "delete", "fl-front"]),
    ):
        stage.type(stage.node, what, command)
        began = time.monotonic()
        eventually(partial(answers, stage))
        console.print(f"  the published port answers again after [bold]{time.monotonic() - began:.2f} s[/]")
    stage.fairlead("doctor")


def answers(stage: Stage) -> bool:
    """Whether the published port answers the outside."""
    return stage.on(stage.outside, "curl", "-sf", "-m", "0.2", "-o", "/dev/null", f"http://{NODE}:8080/").returncode == 0


def outlive(stage: Stage) -> None:
    """Kill the agent."""
    title(
        7,
        "The agent is killed",
        why="The data plane is the kernel's: traffic goes on, and a new agent finds everything as it should be.",
    )
    pid = json.loads(stage.fairlead("status -o json", show=False))["pid"]
    stage.type(stage.node, f"kill -9 {pid}", ["kill", "-9", str(pid)])
    url = f"http://{NODE}:8080/"
    stage.type(stage.outside, f"curl {url}", ["curl", "-sS", "-m", "3", "-o", "/dev/null", "-w", "HTTP %{http_code}\\n", url])
    stage.fairlead("up")
    stage.fairlead("status")


def picture(stage: Stage) -> None:
    """Draw what there is."""
    title(8, "What you have seen")
    at = addresses(stage)
    web, front_api, back_api, db, guest = (
        at[one] for one in (("web", "front"), ("api", "front"), ("api", "back"), ("db", "back"), ("guest", "default"))
    )
    no = "[red]✗[/]"
    both = f"{front_api:>10} and {back_api:<10}"
    console.print(
        f"""
            outside [cyan]{OUTSIDE}[/]            [dim]curl {NODE}:8080[/]
                  │                              │
    ══════════════╪══════════════════════════════╪═════════════════════════════════  node [cyan]{NODE}[/]
       source NAT │               published port │
         ┌────────┴────────┐            ┌────────┴────────┐            ┌─────────────────┐
         │    [bold]fairlead0[/]    │     {no}      │    [bold]fl-front[/]     │     {no}      │     [bold]fl-back[/]     │
         │ network default │            │  network front  │            │ internal, back  │
         └────────┬────────┘            └──┬───────────┬──┘            └──┬───────────┬──┘
                  │                        │           └────── [green]api[/] ───────┘           │
                [green]guest[/]                     [green]web[/]                                         [green]db[/]
           [cyan]{guest:^15}[/]      [cyan]{web:^15}[/]   [cyan]{both}[/]     [cyan]{db:^15}[/]
"""
    )


def two_nodes(stage: Stage) -> None:
    """The lab."""
    title(
        9,
        "Two nodes",
        why="A lab: several nodes on one machine, namespaces with an agent in each. A switch joins them, VXLAN their pods.",
    )
    stage.lab("up --dual --pods 1")
    stage.lab("status")
    address = pod_address(stage, "node2-1")
    console.print("[dim]A pod on one node asks a pod on the other, and then the cable is cut, and mended.[/]\n")
    stage.lab(f"exec node1-1 -- curl -sS -m 3 http://{address}/")
    stage.lab("partition node1 node2")
    stage.lab(f"exec node1-1 -- curl -sS -m 1 http://{address}/", fails=True)
    stage.lab("heal")
    stage.lab(f"exec node1-1 -- curl -sS -m 3 http://{address}/")
    stage.lab("down")


def pod_address(stage: Stage, name: str) -> str:
    """The IPv4 address of a pod of the lab."""
    said = json.loads(stage.on(MACHINE, str(FAIRLEAD), "lab", "status", "--no-reach", "-o", "json").stdout)
    return next(pod["addresses"][0] for machine in said["machines"] for pod in machine.get("pods", ()) if pod["name"] == name)


WHO = """
import http.server
class Who(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(f"you are {self.client_address[0]}\\n".encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("", 9000), Who).serve_forever()
"""


def addresses(stage: Stage) -> dict[tuple[str, str], str]:
    """The first IPv4 address of each container on each network."""
    listed: list[dict[str, Any]] = json.loads(stage.fairlead("get endpoints -o json", show=False))
    found = {(one["spec"]["display"], one["spec"]["network"]): one["spec"]["addresses"][0].partition("/")[0] for one in listed}
    return {
        (name, network): found[name, network]
        for name in CONTAINERS
        for network in ("front", "back", "default")
        if (name, network) in found
    }


def asked(stage: Stage, source: str, name: str, address: str) -> str:
    """Whether ``source`` gets an answer."""
    if source == name:
        return "[dim]·[/]"
    code = f"import socket;socket.create_connection(('{address}', 80), 0.4)"
    done = stage.on(stage.node, *_exec(source), "python3", "-c", code)
    return "[green]✓[/]" if done.returncode == 0 else "[red]✗[/]"


def _exec(name: str) -> list[str]:
    return [str(FAIRLEAD), "exec", name, "--"]


def eventually(condition: Any, deadline: float = 10.0) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("what should have happened has not, within ten seconds")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
