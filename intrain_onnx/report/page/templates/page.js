"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // The theme is set before the body is drawn; storage may be forbidden for files.
  const stored = {
    get() { try { return localStorage.getItem("intrain-theme") || ""; } catch { return ""; } },
    set(theme) { try { localStorage.setItem("intrain-theme", theme); } catch { /* it then lasts as long as the page */ } },
  };
  const useTheme = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  useTheme(stored.get());

  const themes = () => {
    for (const input of all(".theme input")) {
      input.checked = input.value === stored.get();
      input.addEventListener("change", () => { stored.set(input.value); useTheme(input.value); });
    }
  };

  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent;
    if (text.trim() === "") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => (typeof a === "number" && typeof b === "number")
    ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  // What has no value stays last in both directions.
  const sort = (table, header) => {
    const column = header.cellIndex;
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of all("th[aria-sort]", table.tHead)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: key(row, column) }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return up ? order(a.value, b.value) : order(b.value, a.value);
    });
    table.tBodies[0].append(...rows.map((item) => item.row));
  };
  const tables = () => {
    for (const table of all("table.sortable")) {
      for (const header of all("thead th", table)) {
        header.querySelector("button")?.addEventListener("click", () => sort(table, header));
      }
    }
  };

  const filters = () => {
    for (const report of all(".report")) {
      const [search, status, shown] = [".search", ".status", ".shown"].map((s) => report.querySelector(s));
      const rows = all(".layers tbody tr", report);
      const apply = () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        let count = 0;
        for (const row of rows) {
          const text = `${row.textContent} ${row.querySelector("th").title}`.toLowerCase();
          row.hidden = (status.value && row.dataset.s !== status.value) || !words.every((w) => text.includes(w));
          count += !row.hidden;
        }
        shown.textContent = count === rows.length ? `${count} layers` : `${count} of ${rows.length} layers`;
      };
      search.addEventListener("input", apply);
      status.addEventListener("change", apply);
      report.addEventListener("intrain-show-all", () => { search.value = status.value = ""; apply(); });
    }
  };

  // A layer's tooltip is its row of the table: nothing is in the file twice.
  const describe = (tip, row) => {
    const headers = all("thead th", row.closest("table"));
    tip.replaceChildren();
    const name = document.createElement("b");
    name.textContent = row.querySelector("th").textContent;
    tip.append(name);
    headers.forEach((header, i) => {
      const text = row.cells[i].textContent;
      if (row.cells[i].tagName === "TH" || !text) return;
      const line = document.createElement("span");
      for (const part of [header.textContent, text]) line.append(Object.assign(document.createElement("span"), { textContent: part }));
      tip.append(line);
    });
  };
  const place = (tip, tile) => {
    const box = tile.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(box.left + scrollX, scrollX + root.clientWidth - tip.offsetWidth - 8))}px`;
    const above = box.top - tip.offsetHeight - 10;
    tip.style.top = `${scrollY + (above > 4 ? above : box.bottom + 10)}px`;
  };
  const tooltips = () => {
    const tip = document.getElementById("tip");
    const target = (tile) => tile.getAttribute("href").slice(1);
    const edges = (list, id, on) => {
      for (const path of all(on ? `path[data-a="${id}"], path[data-b="${id}"]` : "path.on", list)) path.classList.toggle("on", on);
    };
    const show = (event) => {
      const list = event.currentTarget;
      const tile = event.target.closest?.("a.tile");
      const row = tile && document.getElementById(target(tile));
      if (!row) return;
      edges(list, target(tile), true);
      describe(tip, row);
      tip.hidden = false;
      place(tip, tile);
    };
    const hide = () => {
      tip.hidden = true;
      for (const column of all(".hits .on")) column.classList.remove("on");
      for (const list of all(".network")) edges(list, "", false);
    };
    for (const list of all(".network")) {
      list.addEventListener("mouseover", show);
      list.addEventListener("focusin", show);
      list.addEventListener("mouseout", hide);
      list.addEventListener("focusout", hide);
    }
    for (const chart of all(".chart > svg")) columns(tip, chart, hide);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  };

  // Where a key leads among so many; undefined where it leads nowhere.
  const led = (event, now, count) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const next = { Home: 0, End: count - 1 }[event.key] ?? (step === undefined ? -1 : now + step);
    return next >= 0 && next < count ? next : undefined;
  };

  // The columns of a chart tell their values to mouse, finger and keys; without a script, their titles do.
  const columns = (tip, chart, hide) => {
    const hits = all(".hits rect", chart);
    const texts = hits.map((hit) => { const text = hit.textContent; hit.replaceChildren(); return text.split("\n"); });
    let now = 0;
    const show = (index) => {
      hide();
      now = index;
      hits[now].classList.add("on");
      tip.replaceChildren(...texts[now].map((line, i) => Object.assign(document.createElement(i ? "div" : "b"), { textContent: line })));
      tip.hidden = false;
      place(tip, hits[now]);
    };
    const point = (event) => { if (hits.includes(event.target)) show(hits.indexOf(event.target)); };
    for (const kind of ["pointerover", "pointerdown"]) chart.addEventListener(kind, point);
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    chart.addEventListener("focus", () => { if (chart.matches(":focus-visible") && hits.length) show(now); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const next = led(event, now, hits.length);
      if (next === undefined) return;
      event.preventDefault();
      show(next);
    });
  };

  // One stop for the Tab key; arrows go from layer to layer.
  const arrows = () => {
    for (const list of all(".network")) {
      const tiles = all("a.tile", list);
      tiles.forEach((tile, i) => tile.setAttribute("tabindex", i ? -1 : 0));
      list.addEventListener("keydown", (event) => {
        const now = tiles.indexOf(document.activeElement);
        const next = led(event, now, tiles.length);
        if (now < 0 || next === undefined) return;
        event.preventDefault();
        tiles[now].setAttribute("tabindex", -1);
        tiles[next].setAttribute("tabindex", 0);
        tiles[next].focus();
      });
    }
  };

  const colours = () => {
    for (const input of all(".by input")) {
      input.addEventListener("change", () => { input.closest(".graph").dataset.by = input.value; });
    }
  };

  // A link to a report or a layer opens what hides it.
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let outer = target.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
    if (target.hidden) target.closest(".report").dispatchEvent(new Event("intrain-show-all"));
    target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const part of [themes, tables, filters, tooltips, arrows, colours, reveal]) part();
    addEventListener("hashchange", reveal);
    addEventListener("beforeprint", () => { for (const d of all("details")) d.open = true; });
  });
})();
