"""Runs the cells that it gets as a JSON list on its input in a real Jupyter kernel; writes each cell's outputs as JSON.

    python notebook_program.py DIRECTORY < cells.json > outputs.json

A program of its own: nbclient and pyzmq warn about things that are nobody's fault here.
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.simplefilter("ignore")

import nbclient  # noqa: E402
import nbformat  # noqa: E402


def said(output: dict[str, object]) -> str:
    """One output as text: what was printed, shown as the result, or raised."""
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    data = output["data"]
    assert isinstance(data, dict)
    return str(data["text/plain"])


def main() -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": sys.argv[1]}}
    )
    client.execute()
    json.dump(["\n".join(map(said, cell.outputs)) for cell in notebook.cells], sys.stdout)


main()
