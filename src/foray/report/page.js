// The page's chart and browser of completions. All text from data goes into the page as textContent, never as HTML.
"use strict";
(async () => {
  /** @param {string} tag @param {Object<string, any>} [set] @param {...(Node|string)} children @returns {HTMLElement} */
  const el = (tag, set = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(set)) {
      if (name in node) node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  /** @param {string} packed base64 of deflated JSON @returns {Promise<any>} */
  const inflate = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  };
  const inTokens = (t) => (t >= 1e9 ? `${+(t / 1e9).toPrecision(3)}B` : t >= 1e5 ? `${+(t / 1e6).toPrecision(3)}M` : `${+(t / 1e3).toPrecision(3)}k`);
  const percent = (share) => (100 * share).toFixed(1);
  const save = (name, type, text) => {
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const signed = (share) => (+percent(share) === 0 ? "" : share < 0 ? "−" : "+") + percent(Math.abs(share));
  const labelled = (text, control, ...mark) => el("label", {}, ...mark, ` ${text} `, control);
  /** Keeps one of the elements in the tab order; ``next(i, key)`` says to which of them an arrow key goes from the i-th. */
  const roving = (found, next) => {
    found.forEach((node, i) => {
      node.setAttribute("tabindex", i ? "-1" : "0");
      node.addEventListener("focus", () => found.forEach((other) => other.setAttribute("tabindex", other === node ? "0" : "-1")));
      node.addEventListener("keydown", (event) => {
        const to = found[next(i, event.key) ?? -1];
        if (!to) return;
        event.preventDefault();
        to.focus();
      });
    });
  };
  const choice = (options, value) => {
    const select = el("select", {}, ...options.map(([v, text]) => el("option", { value: v }, text)));
    select.value = value;
    return select;
  };
  const data = JSON.parse(document.getElementById("data").textContent);

  /** @param {HTMLElement} home @param {any} chart what foray.report.chart_data.chart returns; ``minus``: of differences */
  function drawChart(home, chart) {
    const gradings = [...new Set(chart.rows.map((r) => r.grading))];
    const byName = new Map(chart.recipes.map((r) => [r.name, r]));
    const grading = choice(gradings.map((g) => [g, g]), chart.grading);
    const k = el("input", { type: "range", min: 0, max: chart.ks.length - 1, step: 1, value: 0, id: "k" });
    const kShown = el("output", {}, "1");
    const axes = [["tokens", "tokens"], ["ratio", "tokens per parameter"], ...Object.keys(chart.spent).map((a) => [a, a])];
    const axis = choice(axes, "tokens");
    const apart = el("input", { type: "checkbox" });
    const paper = el("input", { type: "checkbox" });
    const on = new Map(chart.recipes.map((r) => [r.name, el("input", { type: "checkbox", checked: true })]));
    const [first, second] = [el("div"), el("div")];
    const [folds, beside] = [el("summary"), el("details")]; // the other grading: folded, so that one chart is read first
    beside.append(folds, second);
    const panels = el("div", { className: "panels" }, first, beside);
    const read = el("p", { className: "dim screen", role: "status" },
      el("span", { className: "keys" }, "Point at a dot for its value, or tab to one and go on with the arrow keys."), el("span", { className: "touch" }, "Tap a dot for its value."));
    const asked = (atK) => (chart.minus ? `${chart.minus} in pass@${atK}` : `pass@${atK}`);
    const csv = el("button", { type: "button" }, "Copy as CSV");
    const svg = el("button", { type: "button" }, "Save as SVG");
    const place = (r) =>
      axis.value === "tokens" ? r.tokens : axis.value === "ratio" ? r.tokens_per_parameter : (chart.spent[axis.value] || {})[`${r.recipe} ${r.tokens}`];
    const chosen = (grade, atK) =>
      (apart.checked ? chart.runs : chart.rows)
        .filter((r) => r.grading === grade && r.k === atK && on.get(r.recipe)?.checked)
        .map((r) => ({ ...r, x: place(r), series: r.recipe + (apart.checked ? ` ${r.run}` : "") }))
        .filter((r) => r.x > 0);
    const color = (r) => byName.get(r.recipe).color;
    const words = (r) => {
      const shown = chart.minus ? signed : percent;
      const range = r.lo === null ? "" : ` (95% interval ${shown(r.lo)} to ${shown(r.hi)})`;
      const run = r.run ? `, run ${r.run}` : "";
      return `${byName.get(r.recipe).label}${run}, M_t ${inTokens(r.tokens)}: ${asked(r.k)} ${shown(r.value)}${chart.minus ? " points" : "%"}${range}`;
    };
    /** The row that an arrow key leads to: along a line by x, between lines by their value. */
    function neighbour(rows, i, key) {
      const along = ["ArrowLeft", "ArrowRight", "Home", "End"].includes(key);
      const near = rows.map((_, j) => j).filter((j) => (along ? rows[j].series === rows[i].series : rows[j].tokens === rows[i].tokens));
      near.sort((a, b) => (along ? rows[a].x - rows[b].x : rows[a].value - rows[b].value));
      const at = near.indexOf(i);
      return near[{ ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, Home: 0, End: near.length - 1 }[key]];
    }
    function panel(grade, atK) {
      const rows = chosen(grade, atK);
      const ends = [...d3.rollup(rows, (g) => g.reduce((a, b) => (b.x >= a.x ? b : a)), (r) => r.series).values()];
      const parameters = rows.length ? rows[0].tokens / rows[0].tokens_per_parameter : 1;
      const [low, high] = [d3.min(rows, (r) => r.x), d3.max(rows, (r) => r.x)];
      const behind = !paper.checked || !["tokens", "ratio"].includes(axis.value) ? [] : chart.paper
        .filter((p) => p.k === atK && on.get(p.recipe)?.checked)
        .map((p) => ({ ...p, x: axis.value === "ratio" ? p.ratio : p.ratio * parameters }));
      // The paper widens the axis, but two fifths of it stay ours. What lies beyond is cut.
      const far = Math.max(high, Math.min(d3.max(behind, (p) => p.x) ?? high, high * (high > low ? high / low : 2) ** 1.5));
      const guess = rows.find((r) => r.chance !== null);
      // Labels of line ends are moved apart, so that none covers another.
      const inside = behind.filter((p) => p.x >= low / 1.09 && p.x <= far * 1.09);
      const top = Math.max(0.05, d3.max(rows, (r) => r.hi ?? r.value) ?? 1, d3.max(inside, (p) => p.value) ?? 0);
      const bottom = chart.minus ? Math.min(-0.05, d3.min(rows, (r) => r.lo ?? r.value) ?? -1) : 0;
      const gap = (top - bottom) * 0.055;
      ends.sort((a, b) => a.value - b.value).forEach((r, i) => { r.at = i ? Math.max(r.value, ends[i - 1].at + gap) : r.value; });
      // Ticks at the checkpoints, where the paper's curves do not widen the axis.
      const ticks = axis.value === "tokens" && !behind.length ? [...new Set(rows.map((r) => r.x))] : 5;
      if (chart.minus) { // intervals of one M_t stand side by side
        const names = chart.recipes.map((r) => r.name).filter((name) => on.get(name).checked);
        const step = 0.015 * Math.log(high > low ? high / low : 1.3);
        rows.forEach((r) => { r.x *= Math.exp(step * (names.indexOf(r.recipe) - (names.length - 1) / 2)); });
      }
      const made = Plot.plot({
        width: Math.max(300, Math.min(beside.open ? 520 : 1000, home.clientWidth)), height: 330, marginRight: 92, marginLeft: 44, marginBottom: 40,
        x: { type: "log", label: axes.find((a) => a[0] === axis.value)[1], tickFormat: axis.value === "tokens" ? inTokens : "~s", ticks, domain: low === far ? undefined : [low / 1.09, far * 1.09] },
        y: { percent: true, grid: true, label: `${asked(atK)} (${chart.minus ? "points" : "%"})`, domain: [bottom * 105, 105 * Math.max(top, d3.max(ends, (r) => r.at) ?? 0)] },
        ariaLabel: `${asked(atK)} on ${chart.task}, ${grade} grading`,
        marks: [
          chart.minus ? Plot.ruleY([0], { strokeOpacity: 0.8 }) : null,
          guess ? Plot.ruleY([guess.chance], { strokeDasharray: "2,3" }) : null,
          guess ? Plot.text([guess], { x: Math.sqrt(low * high), y: "chance", text: () => "guessing", dy: -6 }) : null,
          Plot.lineY(behind, { x: "x", y: "value", z: "recipe", stroke: color, strokeDasharray: "4,3", strokeOpacity: 0.7, clip: true }),
          Plot.ruleX(rows, { x: "x", y1: "lo", y2: "hi", stroke: color, strokeOpacity: 0.5 }),
          Plot.lineY(rows, { x: "x", y: "value", z: "series", stroke: color, strokeWidth: 2, sort: "x" }),
          Plot.dot(rows, { x: "x", y: "value", fill: color, r: 4, ariaLabel: words }),
          Plot.text(ends, { x: (r) => d3.max(rows, (other) => (other.tokens === r.tokens ? other.x : -Infinity)), y: "at", text: (r) => byName.get(r.recipe).label, dx: 8, textAnchor: "start", fill: "currentColor" }),
        ],
      });
      const dots = [...made.querySelectorAll("circle[aria-label]")];
      for (const dot of dots) {
        dot.setAttribute("role", "img");
        for (const event of ["focus", "pointerenter"]) dot.addEventListener(event, () => { read.textContent = dot.getAttribute("aria-label"); });
      }
      roving(dots, (i, key) => neighbour(rows, i, key));
      return made;
    }
    function draw() {
      const atK = chart.ks[+k.value];
      kShown.textContent = `${atK} of ${chart.ks[chart.ks.length - 1]}`;
      k.setAttribute("aria-valuetext", `k = ${atK}`);
      const other = grading.value === chart.other_grading ? chart.grading : chart.other_grading;
      const titled = (g) => [el("h3", {}, `${asked(atK)} on ${chart.task}, ${g} grading`), panel(g, atK)];
      first.replaceChildren(...titled(grading.value));
      beside.hidden = !gradings.includes(other);
      folds.textContent = `The same by ${other} grading`;
      second.replaceChildren(...(beside.hidden ? [] : titled(other)));
      if (paper.checked && !chart.paper.some((p) => p.k === atK)) {
        read.textContent = `The paper has no curve of pass@${atK}; it has k = ${[...new Set(chart.paper.map((p) => p.k))].sort((a, b) => a - b).join(", ")}.`;
      }
    }
    csv.addEventListener("click", async () => {
      const names = ["recipe", "run", "grading", "k", "tokens", "x", "value", "lo", "hi", "n"];
      const text = [names.join(","), ...chosen(grading.value, chart.ks[+k.value]).map((r) => names.map((n) => JSON.stringify(r[n] ?? "")).join(","))].join("\n") + "\n";
      try {
        await navigator.clipboard.writeText(text);
        read.textContent = "The numbers are on the clipboard.";
      } catch {
        save("chart.csv", "text/csv", text); // a browser may forbid the clipboard to a file
      }
    });
    svg.addEventListener("click", () => save("chart.svg", "image/svg+xml", new XMLSerializer().serializeToString(panels.querySelector("svg"))));
    const controls = [grading, k, axis, apart, paper, ...on.values()];
    controls.forEach((c) => c.addEventListener("input", draw));
    beside.addEventListener("toggle", draw);
    const swatch = (r) => el("span", { className: "swatch", style: `background: ${r.color}` });
    home.replaceChildren(
      el("div", { className: "controls", role: "group", ariaLabel: "The chart" }, labelled("grading", grading), el("span", { className: "slider" }, labelled("k", k), kShown),
        ...(axes.length > 2 ? [labelled("against", axis)] : []), ...(chart.runs.length ? [labelled("seeds apart", apart)] : []),
        ...(chart.paper.length ? [labelled("the paper's curves", paper)] : [])),
      el("div", { className: "controls", role: "group", ariaLabel: "Recipes", id: "recipes" },
        ...chart.recipes.map((r) => labelled(r.label, on.get(r.name), swatch(r)))),
      panels, el("div", { className: "controls below" }, read, el("span", { className: "together screen" }, csv, svg)));
    draw();
  }

  /** @param {HTMLElement} home @param {any} found what foray.report.sample_data.browsed returns */
  function drawBrowser(home, found) {
    const named = found.models.map((m, i) => [String(i), `${m.label} at ${inTokens(m.tokens)}`]);
    const last = String(named.length - 1);
    const base = String(Math.max(0, found.models.findLastIndex((m) => m.recipe === "base")));
    const rl = found.models.findLastIndex((m) => m.recipe === "rl");
    const a = choice(named, rl < 0 ? last : String(rl));
    const b = choice(named, base);
    const kinds = [["all", "all problems"], ["solved", "newly solved: by A, never by B"], ["more", "more often by A than by B"],
      ["lost", "newly lost: by B, never by A"], ["unsound", "unsound in A"], ["cut", "truncated in A"]];
    const kind = choice(kinds, "all");
    const read = (p) => Object.keys(p.texts).length > 0;
    const here = el("input", { type: "checkbox" });
    const steps = choice([["", "any"], ...[...new Set(found.problems.map((p) => p.steps))].filter(Boolean).sort((x, y) => x - y).map((s) => [s, s])], "");
    const text = el("input", { type: "search", placeholder: "words of the question" });
    const said = el("p", { className: "dim screen", role: "status" });
    const body = el("tbody");
    const detail = el("div", { id: "completions", ariaLive: "polite" });
    let order = null; // the column and direction that a reader chose; until then by ``ranks``
    let from = null; // the button of the problem that is open
    detail.addEventListener("keydown", (event) => { if (event.key === "Escape") from?.focus(); });
    const count = (p, m) => p.counts[m] ?? [0, 0, 0, 0];
    const fits = {
      all: () => true,
      solved: (p) => count(p, a.value)[0] > 0 && count(p, b.value)[0] === 0,
      more: (p) => count(p, a.value)[0] > count(p, b.value)[0],
      lost: (p) => count(p, b.value)[0] > 0 && count(p, a.value)[0] === 0,
      unsound: (p) => count(p, a.value)[2] > 0,
      cut: (p) => count(p, a.value)[3] > 0,
    };
    /** How many more completions of model m than of model n are right. */
    const lead = (m, n) => (p) => count(p, n.value)[0] - count(p, m.value)[0];
    /** Whether the model is right by unsound steps alone. Where no task can tell, nobody is. */
    const lucky = (m) => (p) => +(count(p, m.value)[0] > 0 && count(p, m.value)[2] === count(p, m.value)[0]);
    const most = (i) => (p) => -count(p, a.value)[i];
    const gain = [[lucky(a), lead(a, b)], "largest lead of A first, problems that A solves only by unsound steps last"];
    const ranks = { // least first, by the first of the numbers that differ
      all: [[lead(a, b)], "largest lead of A first"], solved: gain, more: gain,
      lost: [[lucky(b), lead(b, a)], "largest lead of B first, problems that B solves only by unsound steps last"],
      unsound: [[most(2), lead(a, b)], "most unsound first"], cut: [[most(3), lead(a, b)], "most truncated first"],
    };
    const keys = [(p) => p.question, (p) => +p.steps, (p) => count(p, a.value)[0], (p) => count(p, b.value)[0]];
    const heads = ["problem", "steps", "A right", "B right"].map((name, i) => {
      const button = el("button", { type: "button" }, name);
      const head = el("th", { scope: "col" }, button);
      button.addEventListener("click", () => { order = [i, order?.[0] === i ? -order[1] : 1]; list(); });
      return head;
    });
    function list() {
      const wanted = text.value.toLowerCase();
      const rows = found.problems.filter((p) => fits[kind.value](p) && (!here.checked || read(p)) && (!steps.value || p.steps === steps.value) && p.question.toLowerCase().includes(wanted));
      const [by, words] = ranks[kind.value];
      const ranked = (x, y) => by.map((key) => d3.ascending(key(x), key(y))).find(Boolean) ?? 0;
      rows.sort(order ? (x, y) => order[1] * d3.ascending(keys[order[0]](x), keys[order[0]](y)) : ranked);
      heads.forEach((h, i) => h.setAttribute("aria-sort", i !== order?.[0] ? "none" : order[1] > 0 ? "ascending" : "descending"));
      said.textContent = `${rows.length} of ${found.problems.length} problems${order ? "" : `, ${words}`}.`;
      const right = (p, m) => el("td", { className: "number" }, `${count(p, m)[0]} of ${count(p, m)[1]}`);
      const opens = [];
      body.replaceChildren(...rows.map((p) => {
        const open = el("button", { type: "button" }, p.question.length > 90 ? `${p.question.slice(0, 90)}…` : p.question);
        opens.push(open);
        // The whole row opens; a press of the button comes up to it. Who marks words of another cell opens nothing.
        const row = (event) => { if (event.target === open || !String(getSelection())) { from = open; show(p); } };
        return el("tr", { className: "opens", onclick: row }, el("th", { scope: "row" }, open), el("td", { className: "number" }, p.steps), right(p, a.value), right(p, b.value));
      }));
      roving(opens, (i, key) => ({ ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: opens.length - 1 })[key]);
    }
    /** The text with words marked that the first completion of the model lacks. */
    function marked(words, first) {
      const known = new Set(first.split(/\s+/));
      return words.split(/(\s+)/).map((w) => (!w.trim() || known.has(w) ? w : el("mark", {}, w)));
    }
    function show(p) {
      const parts = found.models.map((m, i) => {
        const texts = p.texts[i];
        const [right, asked, unsound, cut] = count(p, i);
        const notes = [unsound ? `${unsound} unsound` : "", cut ? `${cut} truncated` : ""].filter(Boolean).join(", ");
        const head = el("summary", {}, `${m.label} at ${inTokens(m.tokens)}: ${right} of ${asked} right${notes ? `, ${notes}` : ""}`);
        const open = [a.value, b.value].includes(String(i));
        return el("details", { open }, head, ...(texts ?? []).flatMap(([words, times, good, why]) => [
          el("p", { className: "dim" }, `${times} × ${good ? "right" : "wrong"}${why ? `${good ? ", " : ": "}${why}` : ""}`),
          el("pre", { className: good ? "right" : "wrong" }, ...marked(words, texts[0][0]))]),
          ...(texts ? [] : [el("p", { className: "dim" }, "The completions are left out.")]));
      });
      const chosen = [...new Set([+a.value, +b.value])].map((i) => parts[i]);
      const back = el("button", { type: "button" }, "Back to the list");
      back.addEventListener("click", () => { from?.focus({ preventScroll: true }); said.scrollIntoView(); });
      const title = el("h3", { tabIndex: -1 }, "One problem, all models");
      detail.replaceChildren(title, el("p", { className: "controls touch" }, back), el("pre", {}, p.question), el("p", {}, `Answer: ${p.answer}`),
        el("div", { className: "beside" }, ...chosen), ...parts.filter((part) => !chosen.includes(part)));
      title.focus();
      if (matchMedia("(pointer: coarse), (max-width: 600px)").matches) title.scrollIntoView(); // the list fills the screen
    }
    kind.addEventListener("input", () => { order = null; });
    [a, b, kind, steps, text, here].forEach((c) => c.addEventListener("input", list));
    home.replaceChildren(
      el("p", { className: "dim" }, `${found.task}, ${found.grading} grading. ${found.left_out} Words that a model's first completion lacks are marked.`),
      el("div", { className: "controls" }, labelled("A", a), labelled("B", b), labelled("show", kind), labelled("steps", steps), labelled("text", text),
        ...(found.problems.every(read) ? [] : [labelled("with completions", here)])), said,
      el("div", { className: "problems", tabIndex: 0, role: "region", ariaLabel: "Problems" },
        el("table", {}, el("caption", { className: "dim" }, "Problems and how many completions are right. ",
          el("span", { className: "keys" }, "Enter opens one below; arrow keys go on to the next; Escape leads back here."), el("span", { className: "touch" }, "Tap one to open it below.")), el("thead", {}, el("tr", {}, ...heads)), body)), detail);
    list();
  }

  const chartHome = document.getElementById("chart");
  if (chartHome) drawChart(chartHome, await inflate(data.chart));
  const browserHome = document.getElementById("browser");
  if (browserHome) drawBrowser(browserHome, await inflate(data.samples));
  // What scrolls sideways can be reached by keyboard; what fits is no stop.
  const reach = () => document.querySelectorAll(".scroll").forEach((box) => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  reach();
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  document.documentElement.dataset.ready = "yes";
})();
