"""What steps and models cost: by hand, from the real pipeline's receipts, and what a recipe may say of prices."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_contents import make_content, make_costs, write
from workspaces import RECIPE, alma, receipts

from tasks import cost, energy
from tasks.cost import Cost, CostConfig, cost_of
from tasks.energy import Power
from tasks.receipts import Receipt
from tasks.report_cost import price

ROUND = Power(processor="Test 1", processor_watts=9.0, threads=2, memory_watts=36.0, kg_per_kwh=0.5, codecarbon="1.2.3")
AFTER = {"report", "cards"}
"""Steps that tell what the others cost."""
EUROS = CostConfig(country="DEU", device_hour=3.6, currency="EUR")


def receipt(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "recipe": "town",
        "step": "pretrain",
        "key": "k",
        "digest": "d",
        "parents": {},
        "config": {},
        "code": "c",
        "files": {},
        "metrics": {},
        "cost": {"seconds": 100.0, "processor_seconds": 160.0, "flops": 6e12, "tokens": 1e6},
        "content": "x",
    }
    return Receipt(**values | changes)


def test_a_step_costs_what_a_hand_works_out() -> None:
    found = cost_of(receipt(), EUROS, ROUND)
    # 4.5 W a thread for 160 thread-seconds and 36 W for 100 s: 4320 J, that is 1.2 Wh, at 500 g/kWh 0.6 g.
    assert found.energy_kwh == pytest.approx(0.0012)
    assert found.co2_kg == pytest.approx(0.0006)
    assert found.money == pytest.approx(0.1)
    assert (found.device_seconds, found.flops, found.tokens) == (100.0, 6e12, 1e6)


def test_graphics_cards_count_by_their_counter_and_each_for_itself() -> None:
    on_four = receipt(metrics={"processes": 4}, cost=receipt().cost | {"gpu_kwh": 0.5})
    found = cost_of(on_four, EUROS, ROUND)
    assert found.device_seconds == 400.0
    assert found.money == pytest.approx(0.4)
    assert found.energy_kwh == pytest.approx(0.5012)


def test_what_is_unknown_stays_unknown_in_sums_and_shares() -> None:
    known = cost_of(receipt(), EUROS, ROUND)
    unknown = cost_of(receipt(), CostConfig(), None)
    assert unknown.energy_kwh is unknown.co2_kg is unknown.money is None
    assert (known + unknown).energy_kwh is None
    assert (known + unknown).flops == 1.2e13
    assert known.shared(4) == Cost(**{name: getattr(known, name) / 4 for name in cost.AMOUNTS})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("cost.country=Germany", "cost.country"),
        ("cost.country=XXX", "codecarbon has no figure"),
        ("cost.device_hour=2", "expected both or neither"),
        ("cost.currency=EUR", "expected both or neither"),
        ("cost={device_hour: -1, currency: EUR}", "cost.device_hour"),
        ("cost.price=2", "there is no such field"),
    ],
)
def test_a_bad_price_is_one_line(override: str, said: str) -> None:
    from tasks.recipe import load_recipe

    with pytest.raises(ValueError, match=said) as error:
        load_recipe("recipes/starter.yaml", [override])
    assert "\n" not in str(error.value)


def test_codecarbon_is_asked_once_and_a_run_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    energy.power.cache_clear()
    found = energy.power("FRA")
    assert found is not None
    assert found.threads >= 1
    assert found.processor_watts > 0
    assert 0.01 < found.kg_per_kwh < 0.2, "nuclear power"
    assert [path.as_posix() for path in Path().rglob("*.*")] == ["var/energy/FRA.json"], "nothing of its own"
    assert capfd.readouterr() == ("", "")
    energy.power.cache_clear()
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert energy.power("FRA") == found, "kept"
    assert energy.power("DEU") is None
    energy.power.cache_clear()


def test_the_ledger_is_every_step_that_the_pipeline_did_and_a_version_carries_its_training(workspace: Path) -> None:
    by_step = {found["step"]: found for found in receipts(workspace).values()}
    found = json.loads((workspace / "artifacts/tiny/report/report.json").read_text())["cost"]
    assert {row["step"] for row in found["rows"]} == by_step.keys() - AFTER
    seconds = sum(row["cost"]["seconds"] for step, row in by_step.items() if step not in AFTER)
    assert found["total"]["seconds"] == pytest.approx(seconds)
    assert sum(model["energy_kwh"] for model in found["models"].values()) == pytest.approx(found["total"]["energy_kwh"])
    assert found["total"]["money"] is None
    lineage = json.loads((workspace / "artifacts/tiny/promote/clerk/decision.json").read_text())["lineage"]
    row = next(row for row in found["rows"] if row["step"] == "finetune/clerk")
    assert lineage["energy_kwh"] == row["energy_kwh"] > 0
    assert lineage["co2_kg"] == row["co2_kg"] > 0
    assert "money" not in lineage
    pretrain = next(row for row in found["rows"] if row["step"] == "pretrain")
    assert lineage["foundation_energy_kwh_share"] == pytest.approx(pretrain["energy_kwh"] / 3)
    # A price is put on what was done; no step but the decisions and the report is done again for it.
    done = alma(workspace, "report", RECIPE, "cost={device_hour: 3.6, currency: EUR, country: DEU}")
    assert done.returncode == 0, done.stderr
    started = {line.split()[1] for line in done.stdout.splitlines() if " starts" in line}
    assert started == {"report"} | {step for step in by_step if step.startswith("promote/")}
    priced = json.loads((workspace / "artifacts/tiny/report/report.json").read_text())["cost"]
    assert priced["total"]["money"] == pytest.approx(priced["total"]["device_seconds"] / 1000)
    assert "EUR" in (workspace / "artifacts/tiny/report/report.md").read_text()


def test_the_section_shows_money_only_with_a_price(tmp_path: Path) -> None:
    content = make_content()
    markdown, html = write(content, tmp_path / "free")
    assert "Money" not in markdown + html
    assert "750 mWh" not in markdown
    assert "0.750 Wh" in markdown
    assert "estimated, not measured" in html
    content["cost"] = make_costs(list(content["models"]), device_hour=2.0, currency="EUR")
    markdown, html = write(content, tmp_path / "priced")
    assert "| 2.00 EUR |" in markdown
    assert "2 EUR for an hour" in html
    content["cost"]["power"] = None
    for row in (content["cost"]["total"], *content["cost"]["models"].values(), *content["cost"]["rows"]):
        row |= {"energy_kwh": None, "co2_kg": None}
    markdown, html = write(content, tmp_path / "unknown")
    assert "Energy and emissions are unknown" in html
    assert "Wh" not in html[html.index('id="cost"') :].split("</table>")[1]


def test_prices_are_written_as_prices() -> None:
    assert [price(value, "EUR") for value in (1234.5, 0.00123, None)] == ["1,234.50 EUR", "0.0012 EUR", "–"]  # noqa: RUF001
