"""Tables in LaTeX, with booktabs."""

import re

from suture.report.exhibits import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row these would belong to the \\ before it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "‖": r"$\Vert$",
    "∞": r"$\infty$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
    "σ": r"$\sigma$",
    "μ": r"$\mu$",
    "₁": "$_1$",
    "₂": "$_2$",
    "²": "$^2$",
    "…": r"\dots{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "\u00a0": "~",
}
"""What stands for a character that is not itself in LaTeX."""
GROWING = re.compile(r"([-',])(?=\1)")
"""What would become one sign with its like beside it."""


def latex(text: str) -> str:
    r"""Return text that LaTeX sets as it is, in one line; letters beyond Latin need a font and an engine that have them.

    >>> print(latex("ties_2 & 50% ± 1"))
    ties\_2 \& 50\% $\pm$ 1
    """
    printable = "".join(char if char.isprintable() else " " for char in text)
    return GROWING.sub(r"\1{}", "".join(SPECIAL.get(char, char) for char in printable))


def latex_table(table: Table) -> str:
    r"""Return a ``tabular`` to be put into a document that uses booktabs; all columns but the first are numbers, to the right.

    >>> print(latex_table(Table(name="t", title="Cost", header=["model", "%"], rows=[["ties", "1.0"]])))
    % Cost
    \begin{tabular}{lr}
    \toprule
    model & \% \\
    \midrule
    ties & 1.0 \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    remarks = [f"% {' '.join(text.split())}" for text in (table.title, *table.notes)]
    header, *rows = (f"{' & '.join(map(latex, cells))} \\\\" for cells in (table.header, *table.rows))
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [*remarks, f"\\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
