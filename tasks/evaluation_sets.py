"""The published sets that a recipe asks its models, as items with the texts that must not have been learnt."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tasks.audits import bbq_questions, crows_pairs, labelled_texts, stereoset, winobias_sentences
from tasks.audits.gaps import digests
from tasks.audits.winobias import pair_ids
from tasks.in_context_tasks import KINDS, InContextTask
from tasks.readers import find_files
from tasks.recipe import Recipe
from tasks.sources import DataConfig, Source
from tasks.suite_files import suite_files
from tasks.workspace import file_digest, text_digest


class EvaluationSet(NamedTuple):
    """Items that models are asked."""

    name: str
    """The data set; `audit/<section>`; or `in_context/<task>`."""
    kind: str
    items: dict[str, list[str]]
    """Id, as in the results of the step that asks -> the texts that are looked up."""


def published_sets(recipe: Recipe) -> list[EvaluationSet]:
    """Return the sets of the audits and of the prompts; the starter's own tables among the latter too.

    Raises ValueError as their readers do: in one line with file and line.
    """
    found = [EvaluationSet(f"audit/{name}", "audit", items) for name, items in _audits(recipe)]
    tasks = recipe.in_context.tasks if recipe.in_context else {}
    for name, own in tasks.items():
        try:
            items = prompted(own, recipe.data)
        except ValueError as error:
            raise ValueError(f"in_context.tasks.{name}: {error}") from None
        found.append(EvaluationSet(f"in_context/{name}", "prompt", items))
    return found


def prompted(task: InContextTask, data: DataConfig) -> dict[str, list[str]]:
    """Return the scored rows of a task by their number: what is asked, and what is asked with its answer."""
    from tasks.in_context_prompts import choose_rows

    if task.kind == "lm_eval":
        from tasks.suites import prompts

        return {str(number): texts for number, texts in enumerate(prompts(task, data.root))}
    items = {}
    for number, row in choose_rows(task, data).scored.items():
        asked = str(row[KINDS[task.kind].asked])
        match task.kind:
            case "completion":
                texts = [f"{asked} {row['answer']}"] if "answer" in row else [asked]
            case "choice":
                texts = [asked, f"{asked} {row['choices'][row['label']]}"]
            case "minimal_pairs":
                texts = [row["good"], row["bad"]]
            case "generation":
                texts = [asked, row["target"]]
            case _:
                texts = [asked]
        items[str(number)] = texts
    return items


def _audits(recipe: Recipe) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield the items of the published sets by the ids that the audits give them."""
    audit, root = recipe.audit, recipe.data.root
    if audit.crows_pairs.sources:
        pairs = crows_pairs.read(audit.crows_pairs, root)
        ids = digests(f"{pair.more}\n{pair.less}" for pair in pairs)
        yield "crows_pairs", {name: [pair.more, pair.less] for name, pair in zip(ids, pairs, strict=True)}
    if audit.winobias.sources:
        known = winobias_sentences.read(audit.winobias, root)
        sides = [[f"{one.before} {one.pronoun}{one.after}" for one in (pair.pro, pair.anti)] for pair in known]
        yield "winobias", dict(zip(pair_ids(known), sides, strict=True))
    if audit.stereoset.paths:
        terms: dict[str, list[str]] = {}
        for one in stereoset.read(audit.stereoset, root):
            texts = [f"{sentence.context} {sentence.text}".strip() for sentence in one.sentences]
            terms.setdefault(one.target, []).extend(texts)
        yield "stereoset", terms  # its results are by term
    if audit.bbq.sources:
        questions = bbq_questions.read(audit.bbq, root)
        yield "bbq", {one.id: [one.context, f"{one.context} {one.question}"] for one in questions}
    for name in ("group_fairness", "subgroup_auc"):
        config: Any = getattr(audit, name)
        if config.sources:
            texts = [item.text for item in labelled_texts.read(config, root)]
            yield name, {one: [text] for one, text in zip(digests(texts), texts, strict=True)}


def sets_digest(recipe: Recipe) -> str:
    """Return the digest of all that the published sets come from."""
    audit, root = recipe.audit, recipe.data.root
    sections = (audit.crows_pairs, audit.winobias, audit.bbq, audit.group_fairness, audit.subgroup_auc)
    sources = [source for section in sections for source in section.sources if source.kind == "files"]
    if audit.stereoset.paths:
        sources.append(Source(kind="files", paths=[str(path) for path in audit.stereoset.paths]))
    tasks = recipe.in_context.tasks.values() if recipe.in_context else ()
    suites = [file for own in tasks if own.kind == "lm_eval" for file in suite_files(own, root)]
    sources += [Source(kind="files", paths=paths) for own in tasks for paths in (own.paths, own.shot_paths) if paths]
    made = recipe.data.starter.model_dump(mode="json") if any(own.starter for own in tasks) else None
    found = [*suites, *(file for source in sources for file in find_files(source, root))]
    files = [[shown, file_digest(path)] for shown, path in found]
    return text_digest(json.dumps([made, files]))
