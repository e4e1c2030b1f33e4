"""What is refused before anything runs: a bad recipe, and a model that it does not have."""

from tasks.recipe import Recipe, load_recipe

ONE_MODEL = ("finetune", "scratch", "assess", "audit", "mitigate", "guard", "in_context", "promote")


def opened(command: str, recipe: str, overrides: list[str], model: str = "") -> Recipe:
    """Return the recipe as ``command`` runs it, checked, with what its budget was spent on and its base's version."""
    from tasks.base import pin_base
    from tasks.budget import settle

    return pin_base(settle(checked(command, recipe, overrides, model)))


def checked(command: str, recipe: str, overrides: list[str], model: str = "") -> Recipe:
    """Return the recipe that a flow or a step is to run; ValueError in one line for a fault or an unknown model."""
    config = load_recipe(recipe, overrides)
    known = list(config.specialists) if command in ("finetuning", "finetune", "scratch") else config.models()
    if command == "scratch":
        known = [name for name in known if config.has_control(name)]
    if command in ("in_context", "prompting"):
        from tasks.in_context import asks

        known = [name for name in known if asks(config, name)]
        if not known:
            raise ValueError(f"{command}: {recipe} asks no language model by prompt (section in_context)")
    if command == "transfer":
        known = [name for name in known if config.transfer is not None and name in config.specialists]
        known = [name for name in known if config.has_control(name)]
        if not known:
            raise ValueError(f"transfer: {recipe} has no section transfer, or no specialist with a twin from scratch")
    if command == "mitigate":
        known = [name for name in known if config.mitigations(name)]
        if not known:
            raise ValueError(f"mitigate: no specialist of {recipe} asks for a mitigation (mitigation.method)")
    if command == "adapt" and config.adapt is None:
        raise ValueError(f"adapt: {recipe} has no section adapt, which names the text of a domain")
    if model and model not in known:
        raise ValueError(f"{model!r}: no such model in {recipe} for {command}; there are {', '.join(known)}")
    if command in ONE_MODEL and not model:
        raise ValueError(f"{command}: expected a model of {recipe}: {', '.join(known)}")
    return config
