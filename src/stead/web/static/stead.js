// Keys, curves that can be zoomed, and what a live page does with news. Everything works without it, as forms and links.
(() => {
  "use strict";

  // Keys: one table. After `g`, a letter goes to a page.
  const go = { f: "/", a: "/approvals", i: "/incidents", r: "/runs", t: "/data", m: "/models", d: "/deployments", h: "/drift", e: "/decisions", s: "/maturity", w: "/worth", j: "/jobs" };
  let pending = "", row = -1;
  const rows = () => [...document.querySelectorAll("main table.tbl tbody tr")].filter((tr) => tr.querySelector("a"));
  const move = (by) => {
    const all = rows();
    if (!all.length) return;
    row = Math.max(0, Math.min(all.length - 1, row + by));
    all[row].querySelector("a").focus();
  };
  const keys = {
    "/": () => document.querySelector("main input[type=search], main .filter .input")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => rows()[row]?.querySelector("input[type=checkbox]")?.click(),
    c: () => document.querySelector("[data-key=c]")?.click(),
    "?": () => { const list = document.querySelector("details.keys"); if (list) list.open = !list.open; },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    if (pending === "g" && go[event.key]) { pending = ""; location.href = go[event.key]; return; }
    pending = event.key === "g" ? "g" : "";
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  // Selection: say how many, in the bar below the table.
  const chosen = document.getElementById("chosen");
  if (chosen) {
    const say = () => {
      const n = chosen.querySelectorAll("tbody input:checked").length;
      chosen.querySelector("[data-count]").textContent = n ? `${n} selected` : "Selected runs";
    };
    chosen.addEventListener("change", say);
    chosen.addEventListener("reset", () => setTimeout(say));
    say();
  }

  // Curves: the SVG stands until uPlot has drawn the same numbers, with crosshair and zoom.
  const colour = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const strokes = { c0: "--base", c1: "--series-1", c2: "--series-2", c3: "--series-3", c4: "--series-4", c5: "--series-5", c6: "--series-6" };
  const tables = (curves, log) => {
    const fit = (ys) => ys.map((y) => (y === null || (log && y <= 0) ? null : y));
    const raw = curves.some((c) => c.raw.length);
    return curves.flatMap((c) => (raw ? [[c.x, fit(c.raw)], [c.x, fit(c.y)]] : [[c.x, fit(c.y)]]));
  };
  const unique = ([xs, ys]) => {
    // uPlot wants each x once: several values at one step are moved apart by less than anyone can see.
    let last = -Infinity;
    const span = (xs[xs.length - 1] - xs[0] || 1) * 1e-9;
    return [xs.map((x) => (last = x > last ? x : last + span)), ys];
  };
  const draw = async (figure) => {
    const answer = await fetch(figure.dataset.plot);
    if (!answer.ok) return;
    const { curves, log, x } = await answer.json();
    if (!curves.length || !curves.some((c) => c.x.length > 1)) return;
    const raw = curves.some((c) => c.raw.length);
    const data = uPlot.join(tables(curves, log).map(unique));
    const line = (c, faint) => {
      const stroke = colour(strokes[figure.dataset.colour || c.colour]);
      return { label: c.label, stroke, width: faint ? 1 : 1.5, alpha: faint ? 0.28 : 1, spanGaps: true, points: { show: false } };
    };
    const axis = { stroke: colour("--ink-3"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px " + getComputedStyle(document.body).fontFamily };
    const box = document.createElement("div");
    box.className = "plot";
    const old = figure.querySelector(".plot, svg.chart");
    const height = Number(figure.dataset.height) + 40;
    const options = {
      width: figure.clientWidth, height, padding: [8, 12, 0, 0],
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      series: [{ label: x === "step" ? "step" : "s" }, ...curves.flatMap((c) => (raw ? [line(c, true), line(c)] : [line(c)]))],
      axes: [{ ...axis, size: 28 }, { ...axis, size: 46 }],
      legend: { show: false },
      cursor: { sync: { key: figure.closest("section") ? "together" : null } },
    };
    const says = document.createElement("p");
    says.className = "legend small";
    options.hooks = { setCursor: [(u) => {
      const at = u.cursor.idx;
      if (at == null) { says.textContent = ""; return; }
      const values = u.series.slice(1).map((s, i) => (s.alpha < 1 || u.data[i + 1][at] == null ? null : `${curves.length > 1 ? s.label + " " : ""}${Number(u.data[i + 1][at].toPrecision(5))}`));
      says.textContent = `at ${Number(u.data[0][at].toPrecision(6))}: ${values.filter(Boolean).join(", ")}`;
    }] };
    options.hooks.setSelect = [(u) => { // the zoom goes into the address, so that it can be sent
      if (x !== "step" || u.select.width < 2) return;
      const url = new URL(location);
      url.searchParams.set("since", Math.floor(u.posToVal(u.select.left, "x")));
      url.searchParams.set("until", Math.ceil(u.posToVal(u.select.left + u.select.width, "x")));
      history.replaceState(null, "", url);
    }];
    box.addEventListener("dblclick", () => {
      const url = new URL(location);
      url.searchParams.delete("since");
      url.searchParams.delete("until");
      if (figure.dataset.plot.includes("since=")) location.assign(url);
      else history.replaceState(null, "", url);
    });
    const svg = old && old.getAttribute("aria-label");
    old?.replaceWith(box);
    figure.querySelector("p.legend")?.remove();
    const plot = new uPlot(options, data, box);
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", svg || "curves");
    figure.append(says);
    figure.plot = plot;
  };
  const plots = () => window.uPlot && document.querySelectorAll("figure[data-plot]").forEach((f) => f.plot || draw(f));
  addEventListener("resize", () => document.querySelectorAll("figure[data-plot]").forEach((f) => f.plot?.setSize({ width: f.clientWidth, height: Number(f.dataset.height) + 40 })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll("figure[data-plot]").forEach(draw));
  document.body.addEventListener("htmx:sseClose", (event) => { if (event.detail.type === "message") location.reload(); });
  document.body.addEventListener("htmx:afterSwap", plots);
  plots();
})();
