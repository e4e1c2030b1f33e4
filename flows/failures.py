"""What is said, and how a command ends, when some models failed and the others are done."""

from flows.outages import outage
from tasks.console import log
from tasks.receipts import Receipt


class ModelsFailed(RuntimeError):
    """Some models were not made; what does not depend on them is done, and told in the report where there is one."""

    def __init__(self, failures: "Failures", report: Receipt | None = None) -> None:
        self.failures, self.report = failures, report
        super().__init__("; ".join(f"{model}: {said}" for model, said in failures.reasons().items()))
        self.__cause__ = ExceptionGroup("the models that failed", list(failures.errors.values()))

    @property
    def bad_input(self) -> bool:
        """Return whether every failure is a fault of the input."""
        return all(isinstance(error, ValueError) for error in self.failures.errors.values())


class Failures:
    """The failures of models that stand side by side, where one leaves the others standing."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        """Model -> what it failed of."""
        self.skipped: dict[str, str] = {}
        """Model -> the one that it starts from, or learns from, and that was not made."""

    def blocked(self, model: str, needs: list[str]) -> bool:
        """Return whether ``model`` is skipped, since one of those that it ``needs`` was not made."""
        missing = [name for name in needs if name in self.errors or name in self.skipped]
        if missing:
            self.skipped[model] = missing[0]
        return bool(missing)

    def reasons(self) -> dict[str, str]:
        """Return one line for each model that was not made."""
        failed = {model: one_line(error) for model, error in self.errors.items()}
        return failed | {model: f"skipped, since {needed} was not made" for model, needed in self.skipped.items()}


def tell(model: str, error: Exception) -> None:
    """Say at once that a model failed; the command sums up at its end."""
    log.warning("%-24s failed: %s; what does not depend on it goes on", model, one_line(error))


def one_line(error: BaseException) -> str:
    """Return an error's message as one line; of a server that is away, what that means."""
    return outage(error) or " ".join(str(error).split()) or type(error).__name__
