"""The app's endpoints as programs use them: Gradio's Python client over HTTP, and a language model's client (MCP)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from itertools import groupby
from pathlib import Path
from urllib.parse import urlencode

import gradio as gr
import httpx
import numpy as np
import pytest
import torch
from conftest import served
from gradio_client import Client
from PIL import Image

from ddpm.checkpoint import load_network
from ddpm.data import to_uint8
from ddpm.lessons.learning.run import LABELS, draw
from ddpm.lessons.likelihood.run import Likelihood, carried_out, estimates
from ddpm.lessons.line.run import EDGE
from ddpm.lessons.models import SNAPSHOTS
from ddpm.lessons.noising.run import Noising, moment
from ddpm.lessons.noising.screen import errors, row
from ddpm.lessons.pictures.run import Run, perform
from ddpm.lessons.plane.run import Plane
from ddpm.lessons.schedules.run import NAMES, QUANTITIES, Curves, compare
from ddpm.lessons.train.run import Training
from ddpm.lessons.trained import from_file
from ddpm.page.blocks import UNDONE, Blocks
from ddpm.picture import UPLOAD, encode
from ddpm.plots import tile

ROOT = Path(__file__).parents[1]
STREAMS = {
    *("/denoise_mnist", "/denoise_cifar10", "/sample", "/flow", "/train"),
    *("/noise", "/curves", "/learning", "/bounds"),
}
ANSWERS = {
    *("/generate_mnist", "/generate_cifar10", "/generate_line", "/generate_plane", "/train_network"),
    *("/noise_picture", "/compare_schedules", "/learn_step", "/estimate_bound"),
}


@pytest.fixture(scope="module")
def client(server):
    return Client(server, verbose=False, analytics_enabled=False)


def described(client) -> dict:
    return client.view_api(return_format="dict", print_info=False)["named_endpoints"]


def test_every_lesson_has_a_stream_and_an_answer_and_each_says_what_it_does(client):
    endpoints = described(client)
    assert endpoints.keys() >= STREAMS | ANSWERS
    assert all(" Gives " in endpoints[name]["description"] for name in STREAMS | ANSWERS)


@pytest.mark.parametrize("name", sorted(STREAMS | ANSWERS))
def test_every_argument_has_its_name_its_type_and_a_default(client, name):
    parameters = described(client)[name]["parameters"]
    assert parameters and not [p for p in parameters if re.fullmatch(r"param_\d+", p["parameter_name"])]
    assert all(p["parameter_has_default"] and p["type"]["type"] in ("string", "number", "integer") for p in parameters)


def in_a_notebook(run: Run) -> np.ndarray:
    """The grey values of the picture that ``perform`` gives for ``run``."""
    network = load_network(ROOT / "checkpoints" / "mnist.safetensors").network
    return np.asarray(tile(to_uint8(list(perform(run, network))[-1].x).numpy(), 4).convert("L"), int)


def test_a_program_gets_the_pictures_that_the_same_settings_give_in_a_notebook(client):
    run = Run(label="3", count=2, steps=5, seed=9)
    picture, told = client.predict(label="3", count=2, steps=5, seed=9, api_name="/generate_mnist")
    with Image.open(picture) as got:
        assert got.format == "PNG"
        difference = np.asarray(got.convert("L"), int) - in_a_notebook(run)
    assert abs(difference).max() <= 1
    assert Run(**told["settings"]) == run and told["labels"] == ["3", "3"] and told["notes"] == []
    assert told["link"] == f"?{urlencode(run.query())}"


def test_a_setting_that_had_to_be_corrected_is_told(client):
    _, told = client.predict(count=1, steps=2, seed=-5, api_name="/generate_cifar10")
    assert told["settings"]["seed"] == 0 and "seed = -5" in told["notes"][0]


def test_a_program_gets_the_samples_on_the_line(client):
    told = client.predict(steps=20, count=1000, seed=2, api_name="/generate_line")
    assert sum(told["counts"]) <= 1000 == told["settings"]["count"]
    assert len(told["samples"]) == 100 and max(map(abs, told["samples"])) < EDGE
    assert sum(mode["weight"] for mode in told["modes"]) == pytest.approx(1)


def test_a_program_gets_the_particles_in_the_plane(client):
    told = client.predict(data="circles", steps=5, count=100, denoiser="mine", api_name="/generate_plane")
    assert np.shape(told["particles"]) == (100, 2)
    assert told["distance"] > 0 < told["floor"]
    assert Plane(**told["settings"]).denoiser == "learned" and "no network of your own" in told["notes"][0]


def test_a_program_gets_the_network_that_it_has_trained(client):
    path, told = client.predict(data="moons", batches=100, api_name="/train_network")
    trained = from_file(Path(path))
    assert trained.batches == told["batches"] == 100 == Training(**told["settings"]).batches
    assert trained.plane.data == "moons" and told["held_out_loss"] > 0


def test_a_program_gets_a_noised_picture_and_what_the_network_makes_of_it(client):
    asked = {"model": "mnist", "example": 7, "t": 4, "steps": 10, "schedule": "cosine", "seed": 3}
    picture, told = client.predict(**asked, api_name="/noise_picture")
    noising = Noising(**asked)
    (found,) = carried_out(moment(noising, load_network(ROOT / "checkpoints" / "mnist.safetensors").network))
    assert Noising(**told["settings"]) == noising and told["notes"] == []
    assert (told["log_snr"], told["signal"]) == pytest.approx((found.log_snr, found.signal))
    assert told["signal"] ** 2 + told["std"] ** 2 == pytest.approx(1)
    assert told["errors"] == pytest.approx(errors(found), abs=1e-3)
    with Image.open(picture) as got:
        assert got.format == "PNG" and got.size == (4 * (5 * 29 - 1), 4 * 28)
        difference = np.asarray(got.convert("L"), int) - np.asarray(tile(row(found), 4, across=5), int)
    assert abs(difference).max() <= 1


def test_a_program_gives_a_picture_of_its_own_and_is_told_of_a_wrong_one(client):
    mine = encode(torch.arange(3 * 32 * 32).reshape(UPLOAD).to(torch.uint8), 8)
    asked = {"picture": "uploaded", "model": "cifar10", "t": 1, "steps": 2}
    _, told = client.predict(**asked, upload=mine, api_name="/noise_picture")
    assert told["settings"]["upload"] == mine and mine not in told["link"]
    _, told = client.predict(**asked, upload="me.png", api_name="/noise_picture")
    assert told["settings"]["picture"] == "example" and "upload it again" in told["notes"][-1]


def test_a_program_gets_all_schedules(client):
    picture, told = client.predict(steps=12, c=2, api_name="/compare_schedules")
    found = compare(Curves(steps=12, c=2))
    assert told["steps"] == list(range(1, 13)) and told["schedules"].keys() == set(NAMES)
    values = [[told["schedules"][name][quantity] for quantity in QUANTITIES] for name in NAMES]
    np.testing.assert_allclose(values, found.values, rtol=1e-12)
    with Image.open(picture) as got:
        assert got.size == (2 * (8 * 29 - 1), 2 * (6 * 29 - 1))


def test_a_program_gets_a_step_of_training_and_what_the_kept_networks_draw(client):
    picture, told = client.predict(snapshot="end", seed=2, api_name="/learn_step")
    batch = draw(2)
    assert (told["t"], told["digits"]) == (batch.t.tolist(), batch.label.tolist())
    assert told["loss"] == pytest.approx(np.mean(told["errors"]["unet"]), rel=1e-4)
    assert told["loss"] < np.mean(told["errors"]["convolutions"]) and told["gradient"] > 0
    with Image.open(picture) as got:
        assert got.size == (4 * (len(LABELS) * 29 - 1), 4 * ((len(SNAPSHOTS) + 1) * 29 - 1))


def test_a_program_gets_the_bound_term_by_term_and_the_exact_value(client):
    told = client.predict(data="gaussians", denoiser="exact", steps=20, seed=4, api_name="/estimate_bound")
    *_, found = carried_out(estimates(Likelihood("gaussians", denoiser="exact", steps=20, seed=4), None))
    for part in ("prior", "matching", "reconstruction", "total", "exact"):
        assert tuple(told[part].values()) == pytest.approx(getattr(found, part)), part
    assert told["total"]["value"] > told["exact"]["value"] and told["ranges"][-1][-1] == 20
    assert len(told["ranges"]) == len(told["terms"]) == len(told["errors"])


@pytest.mark.parametrize(
    ("name", "asked", "kinds"),
    [
        ("/noise", {"t": 2, "steps": 6}, ["start", "strip", "moment", "measured", "end"]),
        ("/curves", {"steps": 6}, ["start", "compared", "end"]),
        ("/learning", {"snapshot": "100"}, ["start", "step", "end", "start", "samples", "end"]),
        ("/bounds", {"data": "moons", "denoiser": "exact", "steps": 3}, ["start", "estimate", "end"]),
    ],
)
def test_a_lesson_without_a_run_streams_what_its_page_gets(client, name, asked, kinds):
    job = client.submit(**asked, api_name=name)
    headers = [json.loads(message.partition("|")[0]) for lines in job for message in lines.split("\n")]
    assert [kind for kind, _ in groupby(header["kind"] for header in headers)] == kinds
    assert asked.items() <= headers[0]["run"].items()
    assert not headers[-1]["problem"]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({}, None),
        ({"label": "any", "guidance": 2}, "no label asked for"),
        ({"sampler": "heun", "eta": 1}, "η belongs to"),
        ({"schedule": "constant", "c": 1}, "never reaches pure noise"),
    ],
    ids=str,
)
def test_settings_that_do_not_do_what_they_seem_to_are_told_and_others_are_not(client, settings, part):
    _, told = client.predict(count=1, steps=1, **settings, api_name="/generate_mnist")
    assert len(told["notes"]) == bool(part) and (not part or part in told["notes"][0])


def test_two_answers_at_once_do_not_disturb_one_another(client):
    jobs = [client.submit(label="each", count=4, steps=20, seed=seed, api_name="/generate_mnist") for seed in (1, 2)]
    for job, seed in zip(jobs, (1, 2)):
        picture, told = job.result()
        assert told["settings"]["seed"] == seed
        with Image.open(picture) as got:
            pixels = np.asarray(got.convert("L"), int)
        assert np.abs(pixels - in_a_notebook(Run(count=4, steps=20, seed=seed))).max() <= 2


def example(language: str) -> str:
    """The document's example in ``language`` that uses the app's API."""
    section = (ROOT / "docs" / "api.md").read_text("utf-8").partition("\n## From a program\n")[2].partition("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def test_the_readmes_python_example_runs(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example("python").replace("http://localhost:7860", server), names)  # noqa: S102
    with Image.open(tmp_path / "threes.png") as picture:
        assert picture.format == "PNG"
    assert names["x"].shape == (9, 1, 28, 28) and abs(names["x"]).max() <= 1


def test_the_readmes_javascript_example_names_what_there_is(client):
    script = example("javascript")
    endpoint = re.search(r'predict\("(/\w+)"', script)[1]
    given = re.search(r"predict\(.*?(\{.*?\})", script)[1]
    known = {p["parameter_name"] for p in described(client)[endpoint]["parameters"]}
    assert set(re.findall(r"(\w+):", given)) <= known


def ask(server: str, name: str, values: list) -> tuple[str, object]:
    """The kind of the last event that the call of an endpoint by ``values`` answers, and what it says."""
    address = f"{server}/gradio_api/call/{name}"
    event = httpx.post(address, json={"data": values}, timeout=60).json()["event_id"]
    *_, kind, data = httpx.get(f"{address}/{event}", timeout=60).text.split("\n")[:-2]
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.parametrize("name", sorted(STREAMS | ANSWERS))
def test_a_request_with_too_few_values_is_told_so(server, client, name):
    wanted = len(described(client)[name]["parameters"])
    kind, said = ask(server, name[1:], ["3"] if wanted > 1 else [])
    assert kind == "error"
    assert re.fullmatch(r"The request has [01] of the \d+ values that this event takes\.", said["error"])


def test_a_request_that_fails_is_told_so_and_none_of_what_is_inside():
    with Blocks(analytics_enabled=False) as blocks:
        box = gr.Textbox()
        gr.Button().click(lambda text: {}[text], box, box)
    with pytest.raises(gr.Error) as refusal:
        asyncio.run(blocks.process_api(0, ["a key"]))
    assert refusal.value.message == UNDONE


# --- MCP ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_language_model_gets_a_tool_for_every_lesson_and_pictures_from_it(tmp_path):
    pytest.importorskip("mcp", reason="pip install -r requirements-mcp.txt")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk(url: str):
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            draw = {"name": "generate_mnist", "arguments": {"count": 1, "steps": 2}}
            seen, unseen = await session.call_tool(**draw, progress_callback=listen), await session.call_tool(**draw)
            return await session.list_tools(), seen, unseen

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        pass

    with served(tmp_path / "log", {"GRADIO_MCP_SERVER": "True"}) as url:
        listed, drawn, unseen = asyncio.run(talk(url))
    tools = {tool.name: tool for tool in listed.tools}
    assert tools.keys() == {name.removeprefix("/") for name in ANSWERS}
    for tool in tools.values():
        properties = tool.inputSchema["properties"].values()
        assert all("It must be " in one["description"] for one in properties) and "required" not in tool.inputSchema
    assert not drawn.isError and not unseen.isError
    assert "/gradio_api/file=" in unseen.content[0].text
    picture = next(part for part in drawn.content if part.type == "image")
    assert Image.open(io.BytesIO(base64.b64decode(picture.data))).size == (4 * 28, 4 * 28)
