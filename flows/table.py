"""The closing table of a pipeline run, in the terminal."""

from tasks.receipts import Receipt


def print_table(receipt: Receipt) -> None:
    print(receipt.metrics["table"])
