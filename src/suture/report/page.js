"use strict";
(() => {
  const { charts, texts, dark: onDark } = JSON.parse(document.getElementById("charts").textContent);
  const tip = document.getElementById("tip");
  const darkness = matchMedia("screen and (prefers-color-scheme: dark)");
  const views = new Map();

  // ---- pictures ----

  const theme = (dark) => {
    const [ink, quiet, rule] = dark ? ["#e8eaed", "#a3abb3", "#343a41"] : ["#202124", "#5c6369", "#dfe2e5"];
    const font = getComputedStyle(document.body).fontFamily;
    const labels = { labelFont: font, labelFontSize: 12, labelColor: quiet, labelLimit: 140 };
    const titles = { titleFont: font, titleFontSize: 12, titleFontWeight: 500, titleColor: ink, titlePadding: 10 };
    return {
      axis: { ...labels, ...titles, domainColor: quiet, tickColor: rule, gridColor: rule },
      axisX: { grid: false },
      axisY: { domain: false, ticks: false, grid: true, tickCount: 6 },
      style: { cell: { stroke: null }, text: { font, fontSize: 12 } },
    };
  };

  const coloured = (part, dark) =>
    dark ? JSON.parse(JSON.stringify(part), (_, value) => (typeof value === "string" && onDark[value]) || value) : part;

  // A plane's samples come in columns, one piece for each model and task.
  const samples = ({ clouds, reference }) =>
    clouds.flatMap(({ model, task, x, y, right, samples }) =>
      x.map((_, i) => ({ model, task, x: x[i], y: y[i], right: !!right[i], sample: samples[i], reference: model === reference })));

  const chosen = (figure) => ({
    shown: [...figure.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value),
    model: figure.querySelector("input[type=radio]:checked")?.value ?? "",
  });

  const specOf = (figure, dark) => {
    const chart = charts[figure.id];
    const spec = { ...chart.spec, marks: coloured(chart.spec.marks, dark), scales: coloured(chart.spec.scales, dark) };
    if (!chart.clouds) return spec;
    const now = chosen(figure);
    spec.data = spec.data.map((set) => (set.name === "samples" ? { ...set, values: samples(chart) } : set));
    spec.signals = spec.signals.map((signal) => (signal.name in now ? { ...signal, value: now[signal.name] } : signal));
    return spec;
  };

  // Nothing is waited for but promises already kept, so that a picture asked for before printing is there when it begins.
  const draw = async (figure, dark) => {
    const drawing = { dark };
    views.get(figure)?.view?.finalize();
    views.set(figure, drawing);
    const handler = (_, event, item, value) => tell(charts[figure.id], event, value && item.datum);
    const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: handler, config: theme(dark) };
    const { view } = await vegaEmbed(figure.querySelector(".canvas"), specOf(figure, dark), options);
    if (views.get(figure) === drawing) drawing.view = view;
    else view.finalize();
  };

  const tell = (chart, event, datum) => {
    tip.hidden = !datum;
    if (!datum) return;
    const verdict = datum.right ? "classified right" : "classified wrong";
    const lines = chart.clouds ? [texts[datum.sample], `${datum.task} · ${datum.model} · ${verdict}`] : [datum.told];
    tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
    const { width, height } = tip.getBoundingClientRect();
    const beside = event.clientX + 14 + width > innerWidth ? event.clientX - 14 - width : event.clientX + 14;
    const below = event.clientY + 14 + height > innerHeight ? event.clientY - 14 - height : event.clientY + 14;
    tip.style.left = `${Math.max(8, beside)}px`;
    tip.style.top = `${Math.max(8, below)}px`;
  };

  const figures = [...document.querySelectorAll("[data-chart]")];
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      if (!views.has(target)) draw(target, darkness.matches);
    }
  }, { rootMargin: "800px" });
  figures.forEach((figure) => near.observe(figure));
  darkness.addEventListener("change", () => [...views.keys()].forEach((figure) => draw(figure, darkness.matches)));
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  // ---- what a plane shows ----

  for (const figure of figures.filter(({ id }) => charts[id].clouds)) {
    const boxes = [...figure.querySelectorAll("input[type=checkbox]")];
    const update = () => {
      const { shown, model } = chosen(figure);
      views.get(figure)?.view?.signal("shown", shown).signal("model", model).run();
    };
    figure.addEventListener("change", update);
    for (const button of figure.querySelectorAll("button[data-all]")) {
      button.addEventListener("click", () => {
        boxes.forEach((box) => { box.checked = button.dataset.all === "yes"; });
        update();
      });
    }
  }

  // ---- tables ----

  const number = (text) => {
    const found = text.replaceAll(",", "").replace("−", "-").match(/^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  };

  // What is no number stands last, whichever way the others run.
  const compare = (way, column) => (a, b) => {
    const [one, two] = [a, b].map((row) => row.cells[column].textContent);
    if (column === 0) return way * one.localeCompare(two, undefined, { numeric: true });
    const [left, right] = [number(one), number(two)];
    if (isNaN(left) || isNaN(right)) return isNaN(left) - isNaN(right);
    return way * (left - right);
  };

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = head.closest("table");
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare(ascending ? 1 : -1, head.cellIndex)));
    });
  }

  // ---- paper ----

  const contents = document.getElementById("contents");
  contents.open = matchMedia("(min-width: 68rem)").matches;
  let closed = null;

  const toPaper = () => {
    if (closed) return;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => { part.open = true; });
    for (const figure of figures) if (!views.has(figure) || views.get(figure).dark) draw(figure, false);
  };
  const toScreen = () => {
    closed?.forEach((part) => { part.open = false; });
    closed = null;
    for (const [figure, { dark }] of views) if (dark !== darkness.matches) draw(figure, darkness.matches);
  };
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", toScreen);
  matchMedia("print").addEventListener("change", (print) => (print.matches ? toPaper() : toScreen()));
  if (matchMedia("print").matches) toPaper();
})();
