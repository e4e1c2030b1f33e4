"""The flows on the Prefect page: a deployment with a run form each, and the schedules that the recipes ask for."""

from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from flows.parameters import recipes
from flows.servers import DEPLOYMENT, FLOWS
from flows.watching import mark_killed_runs
from tasks.console import log
from tasks.recipe import load_recipe

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.deployments.runner import RunnerDeployment


def deployments() -> "list[RunnerDeployment]":
    """Return a deployment of every flow, whose form refuses what the flow does not know."""
    from prefect.deployments.runner import EntrypointType
    from prefect.utilities.callables import ParameterSchema

    class Closed(ParameterSchema):
        additionalProperties: bool = False

    made = []
    for name in FLOWS:
        module = import_module(f"flows.{name}")
        # By module: a path would put flows/ itself on sys.path, where a file named like a package shadows it.
        by_module = EntrypointType.MODULE_PATH
        deployment = getattr(module, name).to_deployment(
            name=DEPLOYMENT, entrypoint_type=by_module, triggers=getattr(module, "TRIGGERS", None)
        )
        schema = deployment._parameter_openapi_schema.model_dump(exclude_unset=True)
        choice = schema["properties"].get("recipe")
        if choice is not None and choice["default"] not in choice.get("enum", [choice["default"]]):
            choice["default"] = choice["enum"][0]
            deployment.parameters = {"recipe": choice["default"]}
        deployment._parameter_openapi_schema = Closed(**schema, additionalProperties=False)
        # Said to be unknown: the schedules are set below, and with none here Prefect takes away those made on the page.
        deployment.schedules = None
        deployment.model_fields_set.discard("schedules")
        made.append(deployment)
    return made


def register() -> None:
    """Bring deployments, schedules and the watch over killed runs on the server to what this workspace says."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        mark_killed_runs(client)
        deployed = {}
        for deployment in deployments():
            applied = deployment.apply()
            assert isinstance(applied, UUID)
            deployed[str(deployment.flow_name)] = applied
        _set_schedules(client, deployed)
        _close_forms(client)


def serve() -> None:
    """Register the deployments and run what is triggered or scheduled, one run at a time, until stopped."""
    import prefect

    register()
    prefect.serve(*deployments(), limit=1)


def _close_forms(client: "SyncPrefectClient") -> None:
    """Let the forms of work pools, too, refuse a parameter that the flow does not know: `prefect deploy` cannot."""
    from prefect.client.schemas.actions import DeploymentUpdate

    ours = {f"flows.{name}.{name}" for name in FLOWS}
    for deployment in client.read_deployments():
        schema = deployment.parameter_openapi_schema
        if deployment.entrypoint in ours and schema and "additionalProperties" not in schema:
            closed = DeploymentUpdate(parameter_openapi_schema={**schema, "additionalProperties": False})
            client.update_deployment(deployment.id, closed)


def _set_schedules(client: "SyncPrefectClient", deployed: dict[str, UUID]) -> None:
    """Give each deployment the schedules of the recipes and take away those that no recipe asks for any more.

    A schedule of a recipe is known by its slug, the recipe's name; one without a slug was made on the page and is left
    as it is. One that is switched off on the page stays so.
    """
    wanted, unread = _asked_for()
    for flow, deployment in deployed.items():
        there = {schedule.slug: schedule for schedule in client.read_deployment_schedules(deployment) if schedule.slug}
        for slug, old in there.items():
            new = wanted[flow].get(slug)
            if new is not None:
                client.update_deployment_schedule(deployment, old.id, schedule=new.schedule, parameters=new.parameters)
            elif slug not in unread:
                client.delete_deployment_schedule(deployment, old.id)
        missing = [schedule for slug, schedule in wanted[flow].items() if slug not in there]
        if missing:
            client.create_deployment_schedules(deployment, missing)


def _asked_for() -> "tuple[dict[str, dict[str, DeploymentScheduleCreate]], set[str]]":
    """Return flow -> slug -> schedule of the workspace's recipes, and the slugs of recipes that cannot be read."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.schedules import Cron

    wanted: dict[str, dict[str, DeploymentScheduleCreate]] = defaultdict(dict)
    unread = set()
    for path in recipes():
        slug = Path(path).stem
        try:
            schedule = load_recipe(path).schedule
        except ValueError as error:
            log.warning("%s; its schedule is left as it is", error)
            unread.add(slug)
            continue
        if schedule is not None and schedule.flow not in FLOWS:
            log.warning("%s: schedule.flow: %s is not deployed; there are %s", path, schedule.flow, ", ".join(FLOWS))
        elif schedule is not None:
            every = Cron(schedule.cron, timezone=schedule.timezone, slug=slug, parameters={"recipe": path})
            wanted[schedule.flow][slug] = DeploymentScheduleCreate.from_schedule(every)
    return wanted, unread
