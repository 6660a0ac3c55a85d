"""Every page, parsed: what it says, that nothing that people write runs, roles, forms, errors, headers, weight."""

from __future__ import annotations

import gzip
import itertools
import re
import shlex
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import get_args
from urllib.parse import urlsplit

import click
import pyarrow as pa
import pytest
import sqlalchemy as sa
from asking import Site
from bs4 import BeautifulSoup
from click.testing import CliRunner
from world import DAY, EVIL, START, World

from stead import datasets, deployments, gates, jobs, ledger, maturity, models, monitors, policies, runs, serving
from stead.api import tokens
from stead.cli import cli
from stead.gates.tables import verdicts
from stead.jobs.operations import beat, claim, finish, give_up
from stead.maturity.tables import reviews as review_table
from stead.models.tables import logged_models
from stead.monitors.tables import incidents
from stead.monitors.types import Kind
from stead.pipelines.tables import reproductions
from stead.policies.tables import retrainings
from stead.predictions import DayLoss
from stead.runs.tables import runs as run_table
from stead.runtime.clock import now_ms, to_ms
from stead.serving.operations import write_gateway
from stead.web import frame
from stead.web.deployments import near, sentence
from stead.web.fleet import DAY_MS
from stead.web.frame import when

PAGES = range(51)
KB = 1024


@pytest.mark.parametrize("number", PAGES)
def test_every_page_is_sound(site: Site, world: World, number: int) -> None:
    path = world.pages()[number]
    answer = site.ask(path)
    assert answer.status_code == 200, answer.text[:2000]
    assert len(gzip.compress(answer.content)) < 60 * KB
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = BeautifulSoup(answer.text, "html.parser")
    sound(page)
    assert not page.find_all("script", src=False), "a script in the page"
    assert "alert('x')" not in "".join(str(tag) for tag in page.find_all("script"))
    assert site.ask(path + ("&" if "?" in path else "?") + "format=json").headers["content-type"] == "application/json"


def test_the_list_above_is_whole(world: World) -> None:
    assert len(world.pages()) == len(PAGES)


def sound(page: BeautifulSoup) -> None:
    """What axe would look for that text alone can tell."""
    assert page.html is not None and page.html["lang"] == "en" and page.title is not None
    assert len(page.find_all("main")) == 1
    levels = [int(tag.name[1]) for tag in page.find_all(re.compile(r"^h[1-6]$"))]
    assert levels[0] == 1 and levels.count(1) == 1, levels
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    for control in page.select("input:not([type=hidden]), select, textarea"):
        labelled = control.find_parent("label") or control.get("aria-label")
        assert labelled or page.find("label", attrs={"for": control.get("id") or "none"}), control
    for picture in page.select("svg"):
        assert picture.get("aria-hidden") or picture.get("aria-label") or picture.find_parent("svg"), picture
    for link in page.select("a, button"):
        assert link.get_text(strip=True) or link.get("aria-label"), link
    for row in page.select("thead th"):
        assert row.get("scope") == "col"
    ids = [tag["id"] for tag in page.select("[id]")]
    assert len(ids) == len(set(ids)), "an id twice"
    for tag in page.select("[style], [onclick], [onchange], style"):
        raise AssertionError(f"style or script inline: {tag}")
    for tag in page.select("pre, .scroll"):
        assert tag.get("tabindex") == "0", "what scrolls can be reached by keys"


def test_links_lead_somewhere(site: Site, world: World) -> None:
    seen: set[str] = set()
    for path in world.pages():
        page = site.page(path)
        for tag, attribute in (("a", "href"), ("link", "href"), ("script", "src"), ("figure", "data-plot")):
            for found in page.find_all(tag, attrs={attribute: True}):
                address = str(found[attribute]).partition("#")[0]
                assert not urlsplit(address).netloc, "nothing from elsewhere"
                if address and not address.startswith("data:"):
                    seen.add(address)
    assert len(seen) > 60
    for address in sorted(seen):
        assert site.ask(address).status_code == 200, address


def test_what_people_write_is_text(site: Site, world: World) -> None:
    for path in (
        f"/runs/{world.failed}",
        "/decisions",
        f"/jobs/{world.job}",
        "/models/trips/versions/1",
        "/data/trips",
    ):
        answer = site.ask(path)
        assert "<script>alert" not in answer.text and "<b>north" not in answer.text
    assert EVIL in site.page(f"/runs/{world.failed}").get_text()
    assert EVIL in site.page("/models/trips/versions/1").get_text()


def test_overview_says_what_needs_a_person(site: Site) -> None:
    page = site.page("/")
    assert "no gateway runs" in page.get_text() and "No gateway runs," in page.select_one("ul.todo").get_text()  # type: ignore[union-attr]
    row = page.select_one("table tbody tr")
    assert row is not None and "v2" in row.get_text() and row.select_one("svg.spark") is not None
    names = [a.get_text(strip=True) for a in page.select("nav[aria-label=Main] a")]
    assert names == [
        "Fleet",
        "Approvals1",
        "Incidents2",
        "Runs",
        "Data",
        "Models4",
        "Deployments",
        "Drift",
        "Decisions",
        "Maturity",
        "Worth",
        "Jobs1",
    ]


def test_overview_names_incidents_and_what_waits(site: Site, world: World) -> None:
    page = site.page("/")
    needs = [li.get_text(" ", strip=True) for li in page.select("ul.todo li")]
    assert any(need.startswith(f"incident {world.incident} vans the labelled loss") for need in needs)
    assert any("v3 waits for approval" in need for need in needs) and any("v2 was taken back" in need for need in needs)
    assert not any(need.startswith("loss vans") for need in needs), "its incident says so already"


def test_runs_shows_only_what_differs(site: Site, world: World) -> None:
    page = site.page("/runs")
    heads = [th.get_text(strip=True) for th in page.select("thead th")]
    assert "depth" in heads and "seed" not in heads
    assert "seed" in page.select_one("details.more").get_text()  # type: ignore[union-attr]
    page = site.page("/runs?metric=loss&value=min")
    best = page.select(".best")
    assert len(best) == 1 and best[0].get_text() == "0.05"
    assert len(site.page("/runs?filter=params.depth = 4").select("tbody tr")) == 1
    page = site.page("/runs?filter=params.depth lt 4", 400)
    assert "character" in page.select_one("#problem").get_text()  # type: ignore[union-attr]
    assert page.select_one("input[name=filter]")["value"] == "params.depth lt 4"  # type: ignore[index]


def test_compare_puts_runs_side_by_side(site: Site, world: World) -> None:
    page = site.page(f"/compare?run={world.finished}&run={world.failed}&metric=loss")
    assert "2 runs" in page.h1.get_text()  # type: ignore[union-attr]
    assert len(page.select("svg.chart path.l")) == 2
    differ = page.select("section")[1].get_text(" ")
    assert "depth" in differ
    assert site.ask("/compare").status_code == 303
    assert "no run" in site.page("/compare?run=nothing", 404).get_text()
    numbers = site.ask(page.select_one("figure[data-plot]")["data-plot"]).json()  # type: ignore[index]
    assert [len(curve["x"]) for curve in numbers["curves"]] == [40, 40]
    assert numbers["curves"][0]["y"][9] is None
    zoomed = site.page(f"/compare?run={world.finished}&metric=loss&since=10&until=19")
    numbers = site.ask(zoomed.select_one("figure[data-plot]")["data-plot"]).json()  # type: ignore[index]
    assert numbers["curves"][0]["x"] == list(range(10, 20))
    assert zoomed.find("a", string="Whole range") is not None


def test_a_run_with_all_that_it_recorded(site: Site, world: World) -> None:
    page = site.page(f"/runs/{world.finished}")
    assert len(page.select("figure svg.chart")) == 2
    assert "line one" in page.get_text() and "changed since the commit" in page.get_text()
    (link,) = page.select("a[download]")
    answer = site.ask(str(link["href"]))
    assert answer.content == b"notes"
    assert (
        answer.headers["content-disposition"].startswith("attachment")
        and "sandbox" in answer.headers["content-security-policy"]
    )
    assert site.ask(f"/runs/{world.finished[-8:]}").headers["location"] == f"/runs/{world.finished}"
    assert "trips v1" in page.get_text()


def test_a_run_under_way_is_followed(own: Site, world: World) -> None:
    page = own.page(f"/runs/{world.running}")
    assert page.select_one(f"[sse-connect='/runs/{world.running}/live']")
    from stead import runs

    runs.end(own.store, world.running)
    answer = own.ask(f"/runs/{world.running}/live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")] == ["now", "state", "end"]
    assert "<script>alert" not in answer.text


def test_a_job_under_way_is_followed(own: Site, world: World) -> None:
    assert own.page(f"/jobs/{world.job}").select_one(f"[sse-connect='/jobs/{world.job}/live']")
    jobs.cancel_job(own.store, world.job)
    answer = own.ask(f"/jobs/{world.job}/live")
    assert [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")][-2:] == ["state", "end"]
    assert not own.page(f"/jobs/{world.job}").select("[sse-connect]")
    form = own.page(f"/jobs/{world.job}").select_one("form[action$=retry]")
    assert form is not None
    again = own.ask(str(form["action"]), "POST")
    assert again.status_code == 303 and again.headers["location"] != f"/jobs/{world.job}"
    assert "queued" in own.page(again.headers["location"]).get_text()


def test_a_version_says_why_its_hold_outs_differ(site: Site) -> None:
    text = site.page("/models/trips/versions/1").get_text()
    assert "0.140" in text and "0.320" in text and "expect the second" in text
    assert "a pickle" in text
    graph = site.page("/models/trips/versions/2").select_one("svg.graph")
    assert graph is not None and "trips@1" in graph.get_text()


def test_a_version_says_by_which_path_it_answers(own: Site) -> None:
    address = "/models/trips/versions/2"
    assert "its library. stead models accelerate trips@2 looks for a fast path" in own.page(address).get_text()
    for state, said in (("different", "its library. No fast path: "), ("ready", "its library. A fast path is known: ")):
        path = serving.FastPath("trips", 2, state, f"3.0 × as soon {EVIL}", None, {}, {}, "0" * 32, 1)
        with own.store.db.write("serving.fast") as tx:
            serving.keep_fast_path(own.store, tx, path)
        assert f"{said}3.0 × as soon {EVIL}" in own.page(address).get_text()
    serving.set_fast(own.store, "trips", 2, True)
    assert "its fast path, a model in ONNX: 3.0 × as soon" in own.page(address).get_text()


def test_a_deployment_has_loss_labels_and_steps(site: Site, world: World) -> None:
    page = site.page(f"/deployments/{world.live}")
    assert [li.strong.get_text() for li in page.select("ol.steps li")] == ["requested", "live"]  # type: ignore[union-attr]
    charts = page.select("svg.chart")
    assert "loss of trips by day" in charts[0]["aria-label"]
    assert {text.get_text() for text in charts[0].select("text.lab")} == {"v1", "v2"}
    assert (
        "keeps its promise" in page.select_one(".verdict").get_text()
        or "worse" in page.select_one(".verdict").get_text()
    )  # type: ignore[union-attr]


def test_a_deployment_is_not_judged_by_a_few_labels(site: Site, world: World) -> None:
    live = deployments.get_deployment(site.store, world.live)
    one = DayLoss("trips", 0, live.version, "mae", 3, 0, 1, 0.0, 0.0, 1.0, 1.0, 1.0)
    assert sentence(live, [one], 0.2, "mae") == (
        f"v{live.version} answers.",
        "Its mae over its last day with answers is 0.000; its hold-out in time promised 0.200. That is by 1 label: too few to judge it.",
    )
    many = replace(one, labelled=20, predictions=20)
    assert sentence(live, [many], 0.2, "mae")[0] == f"v{live.version} keeps its promise."


def test_roll_back_by_form(own: Site, world: World) -> None:
    page = own.page(f"/deployments/{world.live}")
    form = page.select_one("form[method=post]")
    assert form is not None
    answer = own.ask(str(form["action"]), "POST", data={"reason": "wrong since Monday", "to": "1"})
    assert answer.status_code == 303, answer.text
    made = deployments.list_deployments(own.store)[0]
    assert (made.kind, made.version, made.reason) == ("rollback", 1, "wrong since Monday")
    assert answer.headers["location"] == f"/deployments/{made.id}"
    again = own.ask(str(form["action"]), "POST", data={})
    assert again.status_code == 409
    assert "Nothing was changed" in again.text


def test_out_of_service_and_back_by_form(own: Site, world: World) -> None:
    page = own.page(f"/deployments/{world.live}")
    form = page.select_one("form[action$=withdraw]")
    assert form is not None
    answer = own.ask(str(form["action"]), "POST", data={"reason": "it harms"})
    assert answer.status_code == 303 and answer.headers["location"] == f"/deployments/{world.live}"
    page = own.page(f"/deployments/{world.live}")
    assert page.select_one("h1 .chip").get_text() == "withdrawn"  # type: ignore[union-attr]
    assert not page.select("form[action$=withdraw]")
    back = page.select_one("form[action$=rollback]")
    assert back is not None
    answer = own.ask(str(back["action"]), "POST", data={"to": str(back.select_one("[name=to]")["value"])})  # type: ignore[index]
    assert answer.status_code == 303
    made = deployments.list_deployments(own.store)[0]
    assert (made.kind, made.version, made.state) == ("rollback", 2, "requested")
    links = [a["href"] for a in own.page(f"/deployments/{made.id}").select("p.sub a")]
    assert links == [f"/jobs/{made.job}"]


def test_an_approval_puts_challenger_beside_champion(site: Site, world: World) -> None:
    listed = site.page("/approvals")
    assert "vans v3 instead of v1" in listed.select_one("ul.todo").get_text()  # type: ignore[union-attr]
    assert "rejected" in listed.select_one("table").get_text()  # type: ignore[union-attr]
    page = site.page(f"/approvals/{world.waiting}")
    said = page.select_one(".verdict").get_text()  # type: ignore[union-attr]
    assert "waits for you" in said and "10.0 % lower than that of v1 on the same rows" in said
    assert "−18.0 % to −2.0 %" in said and page.select("svg.ci line.bound")
    rows = {row.th.get_text(): [td.get_text() for td in row.select("td")] for row in page.select("tbody tr")}  # type: ignore[union-attr]
    assert rows["Hold-out, newest rows"] == ["0.107", "0.320", "–", "", ""], "each on its own rows"
    assert rows["parity"][0] == "passed" and rows["x"] == ["3", "1"]
    assert EVIL in page.select_one("aside").get_text()  # type: ignore[union-attr]
    figures = page.select_one("dl.figs").get_text(" ", strip=True)  # type: ignore[union-attr]
    assert "Loss, same rows −10.0 %" in figures and "Gates 2 of 2" in figures and "Waits" in figures
    assert "v3 lower on 22 of 28 days" in page.get_text() and len(page.select("figure svg.chart path.l")) == 2
    assert "not now" in page.select_one("aside").get_text(), "what was decided before"  # type: ignore[union-attr]
    assert "90 %" in said and page.select("details dl.def"), "a gate's evidence can be opened"
    told = site.page(f"/approvals/{world.rejected}")
    assert "not now" in told.select_one("aside").get_text() and not told.select("form[method=post]")  # type: ignore[union-attr]


def test_a_version_tells_how_much_of_its_environment_agrees_and_what(site: Site) -> None:
    page = site.page("/models/trips/versions/1")
    (section,) = (each for each in page.select("section.sec") if each.h2 and each.h2.get_text() == "Environments")
    (folded,) = section.select("details.more")
    names = [each.get_text() for each in folded.select("dt")]
    rows = [each.get_text() for each in section.select("tbody th")]
    assert "x" in names and {"python", "platform"} <= {*names, *rows} and not set(names) & set(rows)
    assert folded.summary is not None and folded.summary.get_text() == f"The same: {len(names)}"
    lead = section.select_one("span.lead")
    assert lead is not None and f" {len(rows)} differ between" in lead.get_text()
    assert lead.get_text().endswith(f"{len(names)} agree") and "open" not in folded.attrs


def test_an_approval_whose_champion_was_replaced_says_so(
    own: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has taken over since" not in own.page(f"/approvals/{world.waiting}").get_text()
    with own.store.db.write("policies.move") as tx:
        tx.execute(retrainings.update().where(retrainings.c.id == world.waiting).values(champion=2))
    text = own.page(f"/approvals/{world.waiting}").get_text()
    assert "It was judged against v2; v1 has taken over since" in text and "stead compare vans@1 vans@3" in text
    monkeypatch.setenv("STEAD_STORE", str(own.store.root))
    said = CliRunner().invoke(cli, ["approvals"], catch_exceptions=False).output
    assert "vans@3 was judged against v2, and v1 has taken over since: stead compare vans@1 vans@3" in said


def test_a_version_tells_how_it_came_out_when_it_was_made_again(own: Site) -> None:
    plain = {"rows": 24, "metrics": {}, "apart": {}, "furthest": None, "files": [], "facts": {}}
    apart = plain | {"files": ["model.pkl"], "facts": {"seed": ["0", "7"]}, "explained": {"said": "seed explains it"}}
    with own.store.db.write("pipelines.reproduce") as tx:
        for number, (verdict, evidence) in enumerate((("identical", plain), ("different", apart))):
            made = {"model": "vans", "version": 1, "verdict": verdict, "difference": number / 8, "tolerance": 1e-12}
            rest = {"evidence": evidence, "job": f"{number:032}", "by": "person:ann", "at": START + number}
            tx.execute(reproductions.insert().values(made | rest))
    page = own.page("/models/vans/versions/1")
    rows = [row.get_text(" ", strip=True) for row in page.select("[aria-label='Made again'] tbody tr")]
    assert "2 times, the same 1" in page.get_text() and len(rows) == 2
    assert rows[1].startswith("identical") and "explains" not in rows[1]
    assert "seed explains it" in rows[0] and "other bytes: model.pkl" in rows[0] and "seed: 0 , now 7" in rows[0]


def test_a_rerun_tells_of_what_it_is_one_how_it_came_out_and_why(own: Site) -> None:
    run, of = (each.id for each in runs.list_runs(own.store, limit=2).runs)
    made = jobs.enqueue(own.store, "rerun", {"of": of}, model="vans")
    job = claim(own.store, "h-1", ["rerun"])
    assert job is not None and job.id == made.id
    apart = {
        "of": of,
        "run_id": run,
        "model": "m-1",
        "replaced": {"seed": ["0", "7"]},
        "metrics": {"wape": [0.1, 0.25]},
    }
    result = {
        "verdict": "different",
        "difference": 0.5,
        "tolerance": 1e-12,
        "evidence": {},
        "explained": {"said": "seed did"},
    }
    finish(own.store, job, apart | result)
    with own.store.db.write("runs.deliver") as tx:
        tx.execute(run_table.update().where(run_table.c.id == run).values(job_id=made.id))
    page = own.page(f"/runs/{run}")
    again = page.find("h2", string="Run again").find_parent("section")  # type: ignore[union-attr]
    text = " ".join(again.get_text(" ", strip=True).split())  # type: ignore[union-attr]
    assert "seed: 0 → 7" in text and "different in golden rows and losses, apart by 0.5 relative" in text
    assert "Seed did ." in text and "wape 0.1 0.25" in text
    assert again.select_one(f"a[href='/runs/{of}']")  # type: ignore[union-attr]


def test_an_approval_tells_the_champion_as_it_was_and_evidence_in_words(own: Site, world: World) -> None:
    evidence = {"due": START + 10 * DAY, "cron": "0 4 1 * *"}
    with own.store.db.write("policies.move") as tx:
        mine = retrainings.c.id == world.rejected
        tx.execute(retrainings.update().where(mine).values(evidence=evidence, event_time=START + 10 * DAY))
    measured = {"metrics": {"all_recent": 0.2, "window_recent": 0.3}, "rows": 9}
    gates.keep_verdict(own.store, "vans", 2, gates.Verdict("metrics", "passed", "fine", measured))
    page = own.page(f"/approvals/{world.rejected}")
    figures = page.select_one("dl.figs").get_text(" ", strip=True)  # type: ignore[union-attr]
    assert "Champion v1 loss 1.501 in the 28 days before" in figures, "its loss trebled a month later"
    assert "in the last 28 days" in own.page(f"/approvals/{world.waiting}").get_text()
    text = page.get_text(" ")
    assert f"{START + 10 * DAY:,}" not in text and when(START + 10 * DAY) in text
    assert "Last 28 days, learned from all rows" in text and "Last 28 days, learned from 12 months" in text


def test_where_rows_differ_no_difference_is_told(own: Site, world: World) -> None:
    def told(**rows: str) -> str:
        with own.store.db.write("models.register") as tx:
            for version, digest in zip((1, 3), rows.values(), strict=True):
                logged = models.get_version(own.store, f"vans@{version}").logged_model
                info = {"judged_on": {"rows": digest}}
                tx.execute(logged_models.update().where(logged_models.c.id == logged).values(info=info))
            tx.execute(verdicts.delete().where(verdicts.c.gate == "challenger"))
        return own.page(f"/approvals/{world.waiting}").get_text(" ")

    apart = told(champion="a", challenger="b")
    assert "(hold-out, newest rows) was 0.107, that of v1 0.320, each on its own rows" in apart and "66.7" not in apart
    alike = told(champion="a", challenger="a")
    assert "was 0.107, 66.7 % lower than that of v1, 0.320" in alike and "−66.7 %" in alike


def test_a_refusal_says_how_a_person_overrides_it(own: Site, world: World) -> None:
    gates.keep_verdict(own.store, "vans", 3, gates.Verdict("challenger", "failed", "not shown to be at most 5 % worse"))
    with own.store.db.write("policies.move") as tx:
        tx.execute(retrainings.update().where(retrainings.c.id == world.waiting).values(state="refused"))
    page = own.page(f"/approvals/{world.waiting}")
    assert "not shown to be at most 5 % worse" in page.get_text()
    beside = page.select_one("aside")
    assert beside is not None and "v1 answers as before. A person who knows better may override" in beside.get_text()
    assert 'stead deploy vans@3 --override challenger --reason "…"' in beside.get_text()


@pytest.mark.parametrize(("word", "state"), [("approve", "deploying"), ("reject", "rejected")])
def test_approve_and_reject_by_form(own: Site, world: World, word: str, state: str) -> None:
    form = own.page(f"/approvals/{world.waiting}").select_one("form[method=post]")
    assert form is not None
    action = form["action"] if word == "approve" else form.select_one("[formaction]")["formaction"]  # type: ignore[index]
    answer = own.ask(str(action), "POST", data={"reason": "looks right"})
    assert answer.status_code == 303 and answer.headers["location"] == f"/approvals/{world.waiting}"
    decided = policies.get_retraining(own.store, world.waiting)
    assert (decided.state, decided.decision_reason) == (state, "looks right")
    page = own.page(f"/approvals/{world.waiting}")
    assert "looks right" in page.select_one("aside").get_text()  # type: ignore[union-attr]
    late = own.ask(str(action), "POST")
    decision = "approved" if word == "approve" else "rejected"
    assert late.status_code == 409 and f"vans@3 was {decision} by" in late.text
    assert "Approvals1" not in page.select_one("nav").get_text()  # type: ignore[union-attr]


def test_a_model_says_who_acts_and_what_comes_next(site: Site) -> None:
    page = site.page("/models/vans")
    assert "v3 waits for approval" in page.select_one(".verdict").get_text()  # type: ignore[union-attr]
    text = page.get_text(" ")
    assert "stead trains on the schedule and on open incidents" in text.lower() and "The next level, deploy" in text
    signals = {row.th.get_text(): row.td.get_text() for row in page.select("table[class='tbl tight'] tbody tr")[:5]}  # type: ignore[union-attr]
    assert set(signals) == {"age", "data", "incident", "loss", "proxy"}
    assert "v3" in text and "rejected" in text and page.select("a[href^='/approvals/']")
    assert "alarm" in page.select_one("aside").get_text() and page.select("ul.todo a[href^='/incidents/']")  # type: ignore[union-attr]
    quiet = site.page("/models/trips")
    assert "at record people act" in quiet.select_one(".verdict").get_text()  # type: ignore[union-attr]


def test_whose_a_model_is_and_what_its_loss_costs_by_form(own: Site) -> None:
    page = own.page("/models/vans")
    assert "Nobody is named who answers for it" in page.get_text(" ")
    form = page.select_one("form[action$=facts]")
    assert form is not None
    action = str(form["action"])
    fields = {"owner": f"ada {EVIL}", "importance": "high", "loss_value": "0,5", "currency": "eur"}
    assert own.ask(action, "POST", data=fields).status_code == 303
    model = models.get_model(own.store, "vans")
    assert (model.owner, model.importance, model.loss_value, model.currency) == (f"ada {EVIL}", "high", 0.5, "EUR")
    page = own.page("/models/vans")
    assert "Nobody is named" not in page.get_text(" ") and "0.5 EUR" in page.get_text(" ")
    assert f"ada {EVIL}" in page.get_text() and own.page("/").select_one("tr:has(a[href='/models/vans']) th").get_text(
        " ", strip=True
    ).startswith("vans high ada")  # type: ignore[union-attr]
    sound(page)
    for name, wrong, code in (("loss_value", "much", "number-invalid"), ("currency", "euro", "facts-invalid")):
        answer = own.ask(action, "POST", data=fields | {name: wrong})
        assert answer.status_code == 400 and code in answer.text
    assert own.ask(action, "POST", data={"owner": "", "importance": "high"}).status_code == 303
    model = models.get_model(own.store, "vans")
    assert (model.owner, model.importance, model.loss_value) == (None, "high", None)


def test_freeze_and_thaw_by_form(own: Site) -> None:
    answer = own.ask("/models/vans/freeze", "POST", data={"reason": "storm"})
    assert answer.status_code == 303 and answer.headers["location"] == "/models/vans"
    page = own.page("/models/vans")
    assert "Frozen" in page.select_one(".verdict").get_text() and "Storm" in page.get_text()  # type: ignore[union-attr]
    form = page.select_one("form[action$=thaw]")
    assert form is not None and not page.select("form[action$=freeze]")
    assert own.ask(str(form["action"]), "POST", data={"reason": "over"}).status_code == 303
    assert not policies.list_freezes(own.store)


def test_a_canary_shows_split_evidence_and_what_it_waits_for(site: Site, world: World) -> None:
    page = site.page(f"/deployments/{world.canary}")
    said = page.select_one(".verdict").get_text()  # type: ignore[union-attr]
    assert "v2 answers 25 % of the requests" in said and "18 of 30 labelled rows; about 4 days more" in said
    stages = page.select_one("ol[aria-label='Rollout steps']")
    assert stages is not None and [li.strong.get_text() for li in stages.select("li")] == ["25 %", "100 %"]  # type: ignore[union-attr]
    assert page.select_one(".split svg")["aria-label"] == "v1 answers 75.0 %, v2 answers 25.0 %"  # type: ignore[index]
    guards = {row.th.get_text(): row for row in page.select("[aria-label='Evidence against bounds'] tbody tr")}  # type: ignore[union-attr]
    assert guards["Loss"].select_one(".chip").get_text() == "holds"  # type: ignore[union-attr]
    assert guards["Loss"].select("svg.ci line.iv") and guards["Loss"].select("svg.ci line.bound")
    assert guards["Outputs apart"].select("svg.ci line.bound")
    ended = site.page(f"/deployments/{world.aborted}")
    assert "v2 was taken back. Its loss is" in ended.select_one(".verdict").get_text()  # type: ignore[union-attr]
    assert "v1 answered on" in ended.get_text() and not ended.select("form[action$=cancel]")
    assert "broken" in ended.select_one("[aria-label='Evidence as a canary']").get_text()  # type: ignore[union-attr]
    heads = [head.get_text() for head in ended.select("main .cols h2")]
    assert heads.index("As a canary") == 0, "why it was taken back comes first"
    assert "taken back by the guard" in ended.select_one("ol.tl").get_text()  # type: ignore[union-attr]


def day_of(at: int, *, version: int) -> DayLoss:
    return DayLoss("m", at * DAY_MS, version, "mae", 1, 0, 1, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_deployment_is_drawn_with_the_time_around_it() -> None:
    days = [day_of(at, version=1 + at // 100) for at in range(300)]
    shown = near(days, 2)
    assert (shown[0].day // DAY_MS, shown[-1].day // DAY_MS) == (40, 259)
    assert near(days, 9) == days


def test_a_canary_is_followed_and_cancelled_by_form(own: Site, world: World) -> None:
    page = own.page(f"/deployments/{world.canary}")
    assert page.select_one(f"[sse-connect='/deployments/{world.canary}/live']")
    form = page.select_one("form[action$=cancel]")
    assert form is not None
    assert own.ask(str(form["action"]), "POST", data={"reason": "fair"}).status_code == 303
    assert deployments.get_deployment(own.store, world.canary).state == "cancelled"
    page = own.page(f"/deployments/{world.canary}")
    assert "was stopped on its way" in page.select_one(".verdict").get_text() and not page.select("[sse-connect]")  # type: ignore[union-attr]
    assert "event: end" in own.ask(f"/deployments/{world.canary}/live").text
    assert own.ask(str(form["action"]), "POST").status_code == 409


def test_an_incident_shows_its_days_and_what_was_done(site: Site, world: World) -> None:
    listed = site.page("/incidents")
    assert "the labelled loss of" in listed.select_one("ul.todo").get_text()  # type: ignore[union-attr]
    assert "more drivers" in listed.select_one("table").get_text()  # type: ignore[union-attr]
    page = site.page(f"/incidents/{world.incident}")
    assert "at most" in page.select_one(".verdict b").get_text()  # type: ignore[union-attr]
    chart = page.select_one("figure svg.chart")
    assert chart is not None and chart["aria-label"] == "loss by day of vans"
    assert {text.get_text() for text in chart.select("text.lab")} == {
        "seen",
        "first 28",
    } and "since" in chart.get_text()
    assert "webhook" in page.select_one("[aria-label='Who was told']").get_text()  # type: ignore[union-attr]
    figures = page.select_one("dl.figs").get_text(" ", strip=True)  # type: ignore[union-attr]
    assert "Loss +199.9 %" in figures and "Seen after 24 h" in figures and "36 labelled, 0 failed" in figures
    acts = [code.get_text() for code in page.select("aside code.cmd")]
    assert acts == ["stead drift vans", "stead train vans", "stead freeze vans"], "there is no version to go back to"
    assert page.select_one("aside form[action='/models/vans/freeze'] button")
    said = site.page(f"/incidents/{world.said}")
    assert not said.select("figure") and said.select(f"a[href='/approvals/{world.waiting}']")
    over = site.page(f"/incidents/{world.over}")
    assert "It is over." in over.select_one(".verdict").get_text() and not over.select("form[method=post]")  # type: ignore[union-attr]
    assert f"/incidents/{world.said}" in {a["href"] for a in site.page(f"/approvals/{world.waiting}").select("a[href]")}


def test_what_a_user_saw_by_form(own: Site, world: World) -> None:
    for path in ("/incidents?model=vans", "/models/vans"):
        form = own.page(path).select_one("form[action='/incidents']")
        assert form is not None and form.select_one("[name=model] [selected], input[name=model][value=vans]")
    fields = {"model": "vans", "summary": f"late {EVIL}", "since": "2012-02-10", "by": f"Eve {EVIL}", "kind": "data"}
    answer = own.ask("/incidents", "POST", data=fields)
    assert answer.status_code == 303
    page = own.page(answer.headers["location"])
    sound(page)
    evidence = page.select_one("dl.def:has(a[href^='/incidents/'])")
    assert evidence is not None and f"Eve {EVIL}" in evidence.get_text() and "10 Feb 2012" in page.get_text(" ")
    assert f"incident {world.incident}" in evidence.get_text(), "its monitor had told of it before"
    for name, wrong, status, code in (
        ("model", "none", 404, "model-unknown"),
        ("summary", " ", 400, "summary-invalid"),
        ("since", "soon", 400, "time-invalid"),
        ("since", "2999-01-01", 400, "time-ahead"),
        ("kind", "drift", 400, "kind-unknown"),
        ("prediction", "0" * 32, 404, "prediction-unknown"),
    ):
        answer = own.ask("/incidents", "POST", data=fields | {"summary": "again", name: wrong})
        assert answer.status_code == status and code in answer.text


def test_the_page_behind_a_link_for_users(own: Site) -> None:
    path = tokens.report_link(own.store, "vans").path
    page = own.page(f"{path}?prediction={EVIL}")
    sound(page)
    assert not page.select("nav, script, input[name=prediction]") and "vans" in page.get_text()
    answer = own.ask(path, "POST", data={"what": f"late {EVIL}", "name": EVIL})
    assert answer.status_code == 200
    sound(BeautifulSoup(answer.text, "html.parser"))
    made = monitors.list_incidents(own.store)[0]
    assert made.opened_by == f"user:{EVIL}"
    sound(own.page(f"/incidents/{made.id}"))
    sound(own.page("/report/vans/none", 404))


def test_resolve_an_incident_by_form(own: Site, world: World) -> None:
    assert f"incident {world.incident}" in own.page("/").select_one("ul.todo").get_text()  # type: ignore[union-attr]
    form = own.page(f"/incidents/{world.incident}").select_one("form[action$=resolve]")
    assert form is not None
    answer = own.ask(str(form["action"]), "POST", data={"reason": "a strike"})
    assert answer.status_code == 303 and answer.headers["location"] == f"/incidents/{world.incident}"
    found = monitors.get_incident(own.store, world.incident)
    assert (found.state, found.reason) == ("resolved", "a strike")
    assert f"incident {world.incident}" not in own.page("/").select_one("ul.todo").get_text()  # type: ignore[union-attr]
    assert own.ask(str(form["action"]), "POST").status_code == 409


def test_deployments_outside_stead_are_told_by_form(own: Site) -> None:
    page = own.page("/deployments")
    assert "in no registry" in page.select_one("#outside table").get_text()  # type: ignore[union-attr]
    form = page.select_one("#outside details form")
    assert form is not None
    fields = {"model": "trips", "version": "1", "place": f"prod {EVIL}", "hours": "2,5", "at": "2020-02-03"}
    assert own.ask(str(form["action"]), "POST", data=fields).status_code == 303
    made = deployments.list_outside(own.store, model="trips")[0]
    assert (made.version, made.hours, made.place) == (1, 2.5, f"prod {EVIL}") and made.at == to_ms("2020-02-03")
    page = own.page("/deployments")
    sound(page)
    row = page.select_one("#outside tbody tr:has(a[href='/models/trips'])")
    assert row is not None and f"prod {EVIL}" in row.get_text() and "3 Feb 2020" in row.get_text()
    for name, wrong, code in (
        ("hours", "many", "number-invalid"),
        ("hours", "-1", "hours-invalid"),
        ("version", "9", "version-unknown"),
        ("version", "x", "version-invalid"),
        ("at", "soon", "time-invalid"),
        ("at", "2999-01-01", "time-ahead"),
        ("model", "a/b", "name-invalid"),
    ):
        answer = own.ask(str(form["action"]), "POST", data=fields | {name: wrong})
        assert 400 <= answer.status_code < 500 and code in answer.text
    assert own.ask(f"/deployments/outside/{made.id}/forget", "POST").status_code == 303
    assert not deployments.list_outside(own.store, model="trips")
    assert own.ask(f"/deployments/outside/{made.id}/forget", "POST").status_code == 404


def test_undo_and_cancel_by_form(own: Site, world: World) -> None:
    entry = next(
        e for e in ledger.list_entries(own.store) if e.action == "version.registered" and e.subject == "trips@1"
    )
    answer = own.ask(f"/decisions/{entry.id}/undo", "POST", data={"reason": "not needed"})
    assert answer.status_code == 303, answer.text
    assert ledger.get_entry(own.store, entry.id).undone_by is not None
    assert own.ask(f"/decisions/{entry.id}/undo", "POST").status_code == 409
    assert own.ask(f"/jobs/{world.job}/cancel", "POST").status_code == 303
    assert jobs.get_job(own.store, world.job).state == "cancelled"


def test_forms_from_elsewhere_are_refused(own: Site) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert own.ask("/models/trips/rollback", "POST", headers=headers).status_code == 403
    assert len(deployments.list_deployments(own.store, model="trips")) == 2
    too_long = own.ask("/models/trips/rollback", "POST", data={"reason": "x" * 70_000})
    assert too_long.status_code == 400


def test_roles(own: Site, world: World) -> None:
    reader = tokens.create_token(own.store, "reader", role="read").secret
    writer = tokens.create_token(own.store, "writer", role="write").secret
    sent = own.ask("/")
    assert sent.status_code == 303 and sent.headers["location"] == "/login"
    assert own.ask("/?format=json", headers={"accept": "application/json"}).status_code == 403
    assert own.ask("/login").status_code == 200
    assert own.ask("/login", "POST", data={"token": "stead-no-good"}).status_code == 403
    answer = own.ask("/login", "POST", data={"token": reader})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie
    for secret, may in ((reader, False), (writer, True)):
        headers = {"cookie": f"stead_token={secret}"}
        page = BeautifulSoup(own.ask(f"/deployments/{world.live}", headers=headers).text, "html.parser")
        assert bool(page.select("form[action$=rollback]")) is may
        assert not BeautifulSoup(own.ask("/decisions", headers=headers).text, "html.parser").select(
            "form[action$=undo]"
        )
        assert own.ask("/decisions/1/undo", "POST", headers=headers).status_code == 403
        waiting = BeautifulSoup(own.ask(f"/approvals/{world.waiting}", headers=headers).text, "html.parser")
        assert not waiting.select("form[action^='/approvals']")
        assert own.ask(f"/approvals/{world.waiting}/approve", "POST", headers=headers).status_code == 403
        assert own.ask("/models/vans/freeze", "POST", headers=headers).status_code == 403
    headers = {"cookie": f"stead_token={reader}"}
    for action in (
        f"/incidents/{world.incident}/resolve",
        f"/deployments/{world.canary}/cancel",
        "/incidents",
        "/models/vans/facts",
        "/deployments/outside",
        "/deployments/outside/1/forget",
    ):
        assert own.ask(action, "POST", headers=headers).status_code == 403
    refused = own.ask("/models/trips/rollback", "POST", headers={"cookie": f"stead_token={reader}"})
    assert refused.status_code == 403 and "role-too-low" in refused.text
    assert "token:reader" in own.ask("/", headers={"cookie": f"stead_token={reader}"}).text
    out = own.ask("/logout", "POST", headers={"cookie": f"stead_token={reader}"})
    assert 'stead_token=""' in out.headers["set-cookie"]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nothing", 404, "there is no page"),
        ("/runs/none", 404, "run-unknown"),
        ("/models/none", 404, "model-unknown"),
        ("/models/trips/versions/9", 404, "version-unknown"),
        ("/deployments/99", 404, "deployment-unknown"),
        ("/data/none", 404, "dataset-unknown"),
        ("/jobs/none", 404, "job-unknown"),
        ("/approvals/99", 404, "retraining-unknown"),
        ("/incidents/99", 404, "incident-unknown"),
        ("/runs?value=median", 400, "value-unknown"),
        ("/runs?after=nonsense", 400, "page-invalid"),
        ("/series?run=x", 400, "series-invalid"),
        ("/series?run=x&metric=y&since=soon", 400, "step-invalid"),
        (f"/runs/none/artifacts/{EVIL}", 404, "run-unknown"),
        ("/compare?run=none&smooth=2", 404, "run-unknown"),
    ],
)
def test_errors_say_what_happened(site: Site, path: str, status: int, says: str) -> None:
    answer = site.ask(path)
    assert answer.status_code == status
    assert says in answer.text and "nothing was changed" in answer.text
    sound(BeautifulSoup(answer.text, "html.parser"))
    as_json = site.ask(path, headers={"accept": "application/json"})
    assert as_json.status_code == status and as_json.json()["error"]["message"]


def test_an_empty_store_says_what_to_do(bare: Site) -> None:
    page = bare.page("/")
    assert "Nothing is registered yet" in page.get_text()
    sound(page)
    for path in (
        "/approvals",
        "/incidents",
        "/runs",
        "/data",
        "/models",
        "/deployments",
        "/drift",
        "/decisions",
        "/jobs",
    ):
        sound(bare.page(path))


def test_maturity_tells_the_stage_the_step_and_the_rows_behind_each_check(site: Site, bare: Site) -> None:
    page = site.page("/maturity")
    assert "stage 1 of 4" in page.h1.get_text() and "1 of 4 checks hold" in page.select_one("p.verdict").get_text()  # type: ignore[union-attr]
    steps = page.select("ol.steps li")
    assert [step.strong.get_text() for step in steps] == ["1 record", "2 train", "3 deploy", "4 manage"]  # type: ignore[union-attr]
    assert [step.get("aria-current") for step in steps] == ["step", None, None, None]
    links = [a["href"] for a in page.select("table a.ink")]
    assert len(links) == len(maturity.CHECKS) and "/maturity/checks/recorded" in links
    assert page.select_one("svg.heat text.q1") is not None
    of_model = site.page("/maturity?model=vans")
    assert {a["href"] for a in of_model.select("table a.ink")} < {f"{link}?model=vans" for link in links}
    rows = site.page("/maturity/checks/by-person").select("tbody tr")
    assert len(rows) == 8 and all(row.select_one("a[href^='/deployments']") for row in rows)
    assert "Everybody starts at stage 1" in bare.page("/maturity").get_text()
    for path in ("/maturity/checks/nothing", "/maturity?model=nothing"):
        assert site.ask(path).status_code == 404
    for path in ("/maturity?at=soon", "/maturity?at=2999-01-01"):
        assert site.ask(path).status_code == 400
    early = site.page("/maturity?at=1999-01-01")
    assert "no model yet" in early.get_text()


def test_maturity_as_one_file_needs_nothing_else(site: Site) -> None:
    answer = site.ask("/maturity.html?model=vans")
    assert answer.headers["content-disposition"].startswith('attachment; filename="maturity-vans-')
    page = BeautifulSoup(answer.text, "html.parser")
    assert not page.select("script, link[rel=stylesheet], img, iframe") and page.style is not None
    assert "@import" not in answer.text and "url(" not in answer.text
    assert all(str(a["href"]).startswith("http://127.0.0.1:7700/") for a in page.select("a"))
    assert page.select_one("p.verdict") is not None and "stage 1 of 4" in page.h1.get_text()  # type: ignore[union-attr]


def test_commands_on_pages_exist(site: Site, bare: Site, world: World) -> None:
    said: set[str] = set()
    for where, paths in (
        (site, world.pages()),
        (bare, ["/", "/approvals", "/incidents", "/runs", "/data", "/models", "/deployments", "/drift", "/jobs"]),
    ):
        for path in paths:
            for code in where.page(path).select("pre.code, code.cmd"):
                said |= {line for line in code.get_text().splitlines() if line.startswith("stead ")}
    assert len(said) > 8
    for line in said:
        parsed(line)


def parsed(line: str) -> None:
    """Fails where the command line is none of stead's."""
    command: click.Command = cli
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            assert command.invoke_without_command, line
            break
        command, words = found, words[1:]
    with suppress(click.BadParameter) if "FILE" in line else nullcontext():  # that file does not exist
        command.make_context(line, words, **cli.context_settings)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_an_incident_advises_can_be_typed(kind: Kind, own: Site, world: World) -> None:
    made = monitors.open_incident(own.store, "vans", "it is odd", kind="other")
    with own.store.db.write("monitors.incident") as tx:
        tx.execute(sa.update(incidents).where(incidents.c.id == made.id).values(kind=kind))
    page = own.page(f"/incidents/{made.id}")
    said = [code.get_text().strip() for code in page.select("code.cmd, pre.code, .mono")]
    advised = [line for line in said if line.startswith("stead ")]
    assert f"stead runbook {kind}" in advised and len(advised) > 1
    for line in advised:
        parsed(line)


def test_assets_are_light_and_kept(site: Site) -> None:
    files = ["tokens.css", "stead.css", "pages.css", "stead.js"]
    vendor = ["vendor/htmx.min.js", "vendor/sse.min.js", "vendor/uPlot.min.js", "vendor/uPlot.min.css"]
    weight = sum(len(gzip.compress((frame.HERE / "static" / name).read_bytes())) for name in [*files, *vendor])
    assert weight < 60 * KB
    assert len((frame.HERE / "static" / "stead.js").read_text().splitlines()) <= 200
    answer = site.ask(frame.static("stead.css"))
    assert "immutable" in answer.headers["cache-control"] and answer.headers["x-content-type-options"] == "nosniff"
    assert site.ask("/static/stead.css").headers["cache-control"] == "no-cache"
    assert site.ask("/static/../__init__.py").status_code == 404


def test_drift_lists_live_versions_worst_first(site: Site) -> None:
    rows = site.page("/drift").select("ul.todo li")
    assert rows[0].select_one("b").get_text() == "vans v1"  # type: ignore[union-attr]
    assert "The loss suffers" in rows[0].get_text()
    assert {row.select_one("a")["href"] for row in rows} >= {"/models/vans/drift", "/models/trips/drift"}  # type: ignore[index]


def test_drift_shows_the_distributions_behind_a_cell(site: Site) -> None:
    assert site.page("/models/vans").select("main a[href='/models/vans/drift']")
    page = site.page("/models/vans/drift")
    heat = page.select_one("svg.heat")
    assert heat is not None and len(heat.select("a[href]")) == 2 * 4, "two columns, four weeks after the reference"
    assert sorted(str(text.contents[0]) for text in heat.select("text.ye")) == ["output", "temp"]
    assert "The loss suffers" in page.select_one(".verdict").get_text()  # type: ignore[union-attr]
    assert len(page.select("svg.chart.tw")) == 4, "columns, versions, loss and labels on one axis"
    link = str(heat.select("a[href]")[3]["href"]).partition("#")[0]
    cell = site.page(link).select_one("#cell")
    assert cell is not None and "Grey: where v1 was judged" in cell.get_text() and len(cell.select("rect.bar")) == 2
    data = site.ask(link + "&format=json").json()
    assert data["cell"]["references"][0]["version"] == 1 and len(data["drift"]["days"]) == 46
    assert "nothing to compare yet" in site.page("/models/trips/drift").get_text()
    assert site.ask("/models/none/drift").status_code == 404


def test_data_of_a_thousand_columns_has_a_light_page(own: Site) -> None:
    for value in (0.0, 1.0):
        columns = {f"c{number}": [value, 2.0, 3.0] for number in range(1000)} | {"last": [value * 5, 1.0, 2.0]}
        datasets.add(own.store, "wide", pa.table(columns))
    for path in ("/data/wide/2", "/data/wide/2/diff?with=1"):
        answer = own.ask(path)
        assert answer.status_code == 200 and len(gzip.compress(answer.content)) < 60 * KB
        assert len(own.page(path).select("[aria-label=Columns] tbody tr")) == 100
        assert (
            "901 more" in answer.text and len(own.ask(f"{path}{'&' if '?' in path else '?'}format=json").text) > 100_000
        )


def test_a_dataset_tells_its_batches_in_quarantine(own: Site, world: World) -> None:
    assert own.page("/data/trips").select_one("[aria-label='In quarantine']") is None
    said = [f"the column 'x' is text {EVIL}"]
    datasets.put_aside(own.store, "trips", "0" * 64, rows=7, since=0, until=86_400_000, problems=said, job=None)
    row = own.page("/data/trips").select_one("[aria-label='In quarantine'] tbody tr")
    assert row is not None and said[0] in row.get_text() and "1 Jan 1970 to 2 Jan 1970" in row.get_text()


def test_jobs_tells_what_runs_waits_and_fires_next(own: Site, world: World) -> None:
    store = own.store
    jobs.agent_beat(store, "h-1", host="one", pid=7)
    failing = jobs.enqueue(store, "ingest", {}, model="vans", max_attempts=1)
    job = claim(store, "h-1", ["ingest"])
    assert job is not None
    give_up(store, job, {"code": "batch-quarantined", "message": f"rows in quarantine {EVIL}"}, retry=True)
    running = jobs.enqueue(store, "compare", {"since": 0, "until": None, "data": "trips@1"}, model="trips")
    facts = own.page(f"/jobs/{running.id}").select_one("dl.def")
    assert facts is not None and "1 Jan 1970, 00:00" in facts.get_text() and "until" not in facts.get_text()
    job = claim(store, "h-1", ["compare"])
    assert job is not None
    beat(store, job, progress=jobs.Progress("asking both", 1, 4))
    page = own.page("/jobs")
    assert "1 job runs, 1 waits." in page.select_one(".verdict").get_text()  # type: ignore[union-attr]
    runs = page.select_one("[aria-label=Running] tbody tr")
    assert runs is not None and "asking both" in runs.get_text() and runs.select_one("svg[aria-label='25 %']")
    assert runs.select_one(f"form[action='/jobs/{running.id}/cancel'] button") and "1 of 3" in runs.get_text()
    waits = page.select_one("[aria-label=Queue] tbody tr")
    assert waits is not None and "compare trips that runs" in waits.get_text()
    fires = page.select_one("[aria-label=Schedules] tbody tr")
    assert fires is not None and "train vans" in fires.get_text() and "0 4 1 * *" in fires.get_text()
    failed = page.select_one("[aria-label=Failures] tbody tr")
    assert failed is not None and f"rows in quarantine {EVIL}" in failed.get_text()
    assert failed.select_one(f"a[href='/jobs/{failing.id}']") is not None
    asked = [row.get_text(" ", strip=True) for row in page.select("[aria-label=Ended] tbody tr")]
    assert any("retraining 2, incident" in row for row in asked)
    data = own.ask("/jobs?format=json").json()
    assert data["schedules"][0]["model"] == "vans" and data["running"][0]["id"] == running.id


def test_decisions_tell_evidence_alternatives_and_whether_they_were_right(own: Site, world: World) -> None:
    store = own.store
    page = own.page("/decisions?by=stead&kind=deployment")
    (taken,) = page.select("ol.tl > li")
    assert "was taken back" in taken.h3.get_text() and "not judged yet" in taken.select_one(".judge").get_text()  # type: ignore[union-attr]
    told = taken.select_one("details[open] dl")
    assert (
        told is not None
        and len(told.select("svg.ci")) >= 4
        and told.select_one(f"a[href='/deployments/{world.aborted}']")
    )
    assert "hold for more evidence; let it answer all the same" in told.get_text() and "stead undo" in told.get_text()
    (waiting,) = ledger.list_judgements(store)
    found = replace(
        waiting, verdict="right", said="v2 lost 9 % more", difference=0.09, low=0.05, high=0.13, closed=True
    )
    with store.db.write("deployments.step") as tx:
        assert ledger.write_judgement(tx, found)
    page = own.page("/decisions?judged=right")
    (taken,) = page.select("ol.tl > li")
    judged = taken.select_one(".judge")
    assert judged is not None and judged.select_one(".chip.ok") and "v2 lost 9 % more" in judged.get_text()
    assert judged.select_one("svg.ci")["aria-label"] == "loss against the other version +5.0 % to +13.0 %"  # type: ignore[index]
    aside = page.aside.get_text(" ", strip=True)  # type: ignore[union-attr]
    assert "Judged right 1 of 1" in aside and "abort 1 0" in aside
    assert "No decision fits." in own.page("/decisions?judged=wrong").get_text()
    assert not any("by stead" in li.get_text() for li in own.page("/decisions?by=people").select("ol.tl > li"))
    assert own.ask("/decisions?judged=right&format=json").json()["decisions"][0]["judgement"]["verdict"] == "right"


def test_a_look_at_what_waits_is_kept_and_the_decision_is_measured_from_it(own: Site, world: World) -> None:
    path = f"/approvals/{world.waiting}"
    with own.store.db.engine.begin() as tx:
        tx.execute(sa.delete(review_table))  # other tests have looked
    ahead = own.ask(path, headers={"sec-purpose": "prefetch;prerender"})
    assert ahead.status_code == own.ask(f"{path}?format=json").status_code == own.ask("/approvals").status_code == 200
    tokens.create_token(own.store, "boss", role="admin")
    secrets = {role: tokens.create_token(own.store, role, role=role).secret for role in ("read", "approve")}
    reading = own.ask(path, headers={"authorization": f"Bearer {secrets['read']}"})
    assert reading.status_code == 200 and looks(own) == []
    for _ in range(2):
        assert own.ask(path, headers={"authorization": f"Bearer {secrets['approve']}"}).status_code == 200
    assert looks(own) == [(f"retraining {world.waiting}", "token:approve")]
    with own.store.db.engine.begin() as tx:
        tx.execute(sa.update(review_table).values(opened_at=review_table.c.opened_at - 25 * 60_000))
        tx.execute(sa.text("update ledger set at = at - 3600000"))
    boss = {"authorization": f"Bearer {secrets['approve']}"}
    assert own.ask(f"{path}/approve", "POST", headers=boss).status_code == 303
    said = BeautifulSoup(own.ask(path, headers=boss).text, "html.parser").get_text(" ", strip=True)
    assert "25 min: review 25, measured" in said
    asked = policies.get_retraining(own.store, world.waiting).deployment
    page = BeautifulSoup(own.ask(f"/deployments/{asked}", headers=boss).text, "html.parser")
    assert "review 25, measured" in page.get_text(" ", strip=True)


def looks(site: Site) -> list[tuple[str, str]]:
    with site.store.db.read() as tx:
        return [tuple(row) for row in tx.execute(sa.select(review_table.c.subject, review_table.c.by))]


def test_a_page_that_cannot_write_shows_all_the_same(own: Site, world: World) -> None:
    with own.store.db.engine.begin() as tx:
        tx.execute(sa.text("drop table reviews"))
    assert own.ask(f"/approvals/{world.waiting}").status_code == 200


def test_work_by_hand_tells_and_takes_a_correction(own: Site, world: World) -> None:
    page = own.page("/work?days=0")
    verdict = page.select_one("p.verdict")
    assert verdict is not None and "by hand since the beginning, by 1 person" in verdict.get_text(" ", strip=True)
    row = next(row for row in page.select("tbody tr") if "Rejected vans@2" in row.get_text(" ", strip=True))
    assert "10 default" in row.get_text(" ", strip=True)
    form = row.find("form")
    assert form is not None
    data = {field["name"]: field.get("value", "") for field in form.select("input")} | {"minutes": "33,5"}
    answer = own.ask(str(form["action"]), "POST", data=data)
    assert (answer.status_code, answer.headers["location"]) == (303, "/work?days=0")
    row = next(row for row in own.page("/work?days=0").select("tbody tr") if "Rejected vans@2" in row.get_text())
    assert "34 corrected" in row.get_text(" ", strip=True)
    for wrong, code in (("", "minutes-invalid"), ("soon", "minutes-invalid"), ("-4", "minutes-invalid")):
        refused = own.ask(str(form["action"]), "POST", data={"minutes": wrong})
        assert refused.status_code == 400 and code in refused.text
    elsewhere = own.ask(str(form["action"]), "POST", data={"minutes": "3", "back": "//evil.example"})
    assert elsewhere.headers["location"] == "/work"
    assert own.ask("/work/99999/correct", "POST", data={"minutes": "3"}).status_code == 404
    assert own.ask("/work?model=nobody").status_code == 404 and own.ask("/work?days=x").status_code == 200
    reader = tokens.create_token(own.store, "reader", role="read").secret
    headers = {"authorization": f"Bearer {reader}"}
    assert own.ask(str(form["action"]), "POST", data=data, headers=headers).status_code == 403
    assert "Correct" not in own.ask("/work?days=0", headers=headers).text


def test_without_work_nothing_is_invented(bare: Site) -> None:
    assert "Nothing was done by hand" in bare.page("/work").get_text(" ", strip=True)


def test_a_deployment_tells_whether_its_way_back_was_tried(own: Site, world: World) -> None:
    path = f"/deployments/{world.live}"
    page = own.page(path)
    assert "never tried" in page.get_text(" ", strip=True) and page.find(
        "form", attrs={"action": "/models/trips/drill"}
    )
    refused = own.ask("/models/trips/drill", "POST")
    assert refused.status_code == 503 and "no gateway runs" in refused.text
    gateway = serving.Gateway("g", "http://127.0.0.1:1", "elsewhere", 1, 9, {}, {}, {}, now_ms())
    write_gateway(own.store, gateway)
    asked = own.ask("/models/trips/drill", "POST", data={"reason": "monthly"})
    (job,) = jobs.open_jobs(own.store, kind="drill")
    assert (asked.status_code, asked.headers["location"], job.payload["reason"]) == (303, f"/jobs/{job.id}", "monthly")
    assert own.ask(f"/jobs/{job.id}").status_code == 200
    for worked, chip in ((True, "ok"), (False, "bad")):
        with own.store.db.write("deployments.drill") as tx:
            evidence = {"worked": worked, "seconds": 0.1, "version": 1, "said": EVIL}
            ledger.record(
                tx, actor="person:ada", action="drill.rollback", model="trips", subject="trips@1",
                summary=f"it took 0.1 s {EVIL}", evidence=evidence,
            )  # fmt: skip
        page = own.page(path)
        mark = next(each for each in page.select("span.chip") if each.get_text(strip=True) == "drilled")
        assert chip in mark["class"] and f"it took 0.1 s {EVIL}" in page.get_text(" ", strip=True)


def test_times_that_moved_are_told(bare: Site) -> None:
    for year in (2019, 2029):
        when = pa.array([f"{year}-01-0{n}" for n in (1, 2)]).cast(pa.timestamp("ms"))
        datasets.add(bare.store, "moved", pa.table({"when": when, "x": [1, 2]}))
    told = " ".join(bare.page("/data/moved/2/diff").get_text(" ").split())
    assert "when moved: it has 1 Jan 2029 – 2 Jan 2029 now, and had 1 Jan 2019 – 2 Jan 2019." in told
