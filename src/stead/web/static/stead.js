// Keys: one table. `/` filter, j k rows, x select, c compare, g r go, ? list.
(() => {
  "use strict";
  const go = { f: "/", r: "/runs", m: "/models", d: "/decisions", p: "/deployments", j: "/jobs" };
  let pending = "", row = -1;
  const rows = () => [...document.querySelectorAll("main table.tbl tbody tr")];
  const move = (by) => {
    const all = rows();
    if (!all.length) return;
    row = Math.max(0, Math.min(all.length - 1, row + by));
    const link = all[row].querySelector("a");
    if (link) link.focus();
  };
  const keys = {
    "/": () => document.querySelector("main input[type=search], main .filter input")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => rows()[row]?.querySelector("input[type=checkbox]")?.click(),
    c: () => document.querySelector("[data-key=c]")?.click(),
    "?": () => { const list = document.querySelector("details.keys"); if (list) list.open = !list.open; },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (pending === "g" && go[event.key]) { pending = ""; location.href = go[event.key]; return; }
    pending = event.key === "g" ? "g" : "";
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
})();
