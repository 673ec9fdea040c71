// Losses and learning rates of this and earlier trainings, over each other, by uPlot. The legend is buttons: keys reach it.
"use strict";
(() => {
  const place = document.getElementById("plots");
  const curves = JSON.parse(document.getElementById("plots-data").textContent);
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 4], [1, 4]];
  const WHOLE = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap((size) => [size, 2 * size, 5 * size]); // there is no half of a step
  const shown = curves.map((_, i) => i < 6);
  const name = (i) => `s${Math.min(i, 5)}`;
  const dash = (i) => DASHES[Math.min(i, 5)];
  const make = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  // A colour as the theme of now has it: canvases know no variables.
  const probe = make("span");
  probe.hidden = true;
  place.append(probe);
  const colour = (className) => { probe.className = className; return getComputedStyle(probe).color; };

  const legend = make("div", "legend");
  legend.setAttribute("role", "group");
  legend.setAttribute("aria-label", "Trainings that are shown");
  const SVG = "http://www.w3.org/2000/svg";
  curves.forEach((curve, i) => {
    const button = make("button");
    button.type = "button";
    const sign = document.createElementNS(SVG, "svg");
    sign.setAttribute("class", name(i));
    sign.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(SVG, "line");
    for (const [key, value] of Object.entries({ x1: "0", x2: "100%", y1: "50%", y2: "50%", "stroke-dasharray": dash(i).join(" ") })) line.setAttribute(key, value);
    sign.append(line);
    button.append(sign, curve.label);
    button.setAttribute("aria-pressed", String(shown[i]));
    button.addEventListener("click", () => {
      shown[i] = !shown[i];
      button.setAttribute("aria-pressed", String(shown[i]));
      draw();
    });
    legend.append(button);
  });
  const readout = make("p", "readout");
  const isHeld = curves.some((curve) => curve.heldSteps.length);
  const panels = [
    { key: "loss", steps: "steps", title: "Loss", height: 260, held: isHeld },
    { key: "rate", steps: "steps", title: "Learning rate", height: 120, held: false },
  ].filter((panel) => curves.some((curve) => curve[panel.key].some((value) => value !== null)));
  for (const panel of panels) {
    panel.figure = make("figure", "panel");
    panel.figure.append(make("figcaption", "", panel.held ? "Loss; dots: of held-out records" : panel.title));
    panel.at = make("div");
    panel.at.setAttribute("role", "img");
    panel.at.setAttribute("aria-label", `${panel.title} over steps, one line a training; the numbers stand below`);
    panel.figure.append(panel.at);
  }
  place.append(legend, ...panels.map((panel) => panel.figure), readout);

  const short = (value) => (value === null || value === undefined ? "-" : Math.abs(value) >= 0.001 || value === 0 ? String(Number(value.toPrecision(4))) : value.toExponential(2).replace(/\.?0+e/, "e"));
  const tell = (plot) => {
    const i = plot.cursor.idx;
    if (i === null || i === undefined) { readout.textContent = "Step by step: point at the plot, or open the numbers."; return; }
    const values = plot.series.slice(1).map((series, at) => [series, plot.data[at + 1][i]]).filter(([, value]) => value !== null && value !== undefined);
    readout.textContent = [`step ${plot.data[0][i].toLocaleString("en")}`, ...values.map(([series, value]) => `${series.label} ${short(value)}`)].join("   ·   ");
  };
  const options = (panel, series, width) => ({
    width,
    height: panel.height,
    legend: { show: false },
    cursor: { sync: { key: "steps" }, y: false, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { range: (_, low, high) => (low === null ? [0, 1] : panel.key === "rate" ? [0, high * 1.08 || 1] : uPlot.rangeNum(low, high, 0.08, true)) } },
    axes: [
      { incrs: WHOLE, stroke: colour("axis"), grid: { stroke: colour("grid-line"), width: 1 }, ticks: { stroke: colour("grid-line") }, size: 34, font: font },
      { stroke: colour("axis"), grid: { stroke: colour("grid-line"), width: 1 }, ticks: { stroke: colour("grid-line") }, size: 64, font: font, values: (_, all) => all.map((value) => (value === null ? "" : short(value))) },
    ],
    series: [{}, ...series],
    hooks: { setCursor: [(plot) => { if (plot.cursor.event || plot.cursor.idx === null) tell(plot); }] },
  });
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;

  function draw() {
    const width = Math.max(240, place.clientWidth - parseFloat(getComputedStyle(place).paddingLeft) * 2);
    for (const panel of panels) {
      const tables = [];
      const series = [];
      curves.forEach((curve, i) => {
        if (!shown[i]) return;
        const stroke = colour(name(i));
        if (curve.steps.length) {
          tables.push([curve.steps, curve[panel.key]]);
          series.push({ label: curve.label, stroke, width: i ? 1.4 : 2.2, dash: dash(i), spanGaps: true, points: { show: curve.steps.length === 1 } });
        }
        if (panel.held && curve.heldSteps.length) {
          tables.push([curve.heldSteps, curve.held]);
          series.push({ label: `${curve.label}, held out`, stroke, paths: () => null, points: { show: true, size: i ? 6 : 8, stroke, fill: i ? colour("axis-paper") : stroke, width: 1.6 } });
        }
      });
      panel.plot?.destroy();
      panel.plot = null;
      panel.at.replaceChildren();
      if (tables.length) panel.plot = new uPlot(options(panel, series, width), uPlot.join(tables), panel.at);
    }
  }
  place.hidden = false;
  draw();
  readout.textContent = "Step by step: point at the plot, or open the numbers.";
  document.addEventListener("theme", draw);
  let wide = place.clientWidth;
  new ResizeObserver(() => { if (place.clientWidth !== wide) { wide = place.clientWidth; draw(); } }).observe(place);
})();
