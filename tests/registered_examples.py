"""A worse foundation, really registered: the one of the recipe tiny with noise in its weights."""

from pathlib import Path

from tasks import registry, tracking
from tasks.lineage import PREFIX

FOUNDATION = "tiny-foundation"


def register_noise(workspace: Path, promotion_key: str = "0" * 64) -> str:
    """Register the recipe's foundation with other weights as a version of its own, and return its number."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained, made = workspace / "artifacts/tiny/pretrain/model", workspace / "noise/model"
    model = AutoModelForCausalLM.from_pretrained(trained)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    model.save_pretrained(made)
    AutoTokenizer.from_pretrained(trained).save_pretrained(made)
    tags = registry.tags_of(FOUNDATION, "1")
    assert tags is not None
    tags |= {f"{PREFIX}weights_digest": f"noise {promotion_key}", f"{PREFIX}assessment_digest": "none"}
    kept = {tag: value for tag, value in tags.items() if tag.startswith(PREFIX) and tag != registry.PROMOTION_KEY}
    run_id = tracking.run_of("tiny", "noise", promotion_key, {}, {})
    return registry.register(FOUNDATION, made, "foundation", run_id, promotion_key, kept, ["The town"], None)
