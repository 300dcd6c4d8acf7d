"use strict";
// The page of a report: operating point, table of scans, and the list of findings with its viewer.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const viewer = makeViewer(data);
  const byId = (id) => document.getElementById(id);
  const rowsElement = byId("rows"), viewerElement = byId("viewer"), rate = byId("rate");
  const words = { hit: "found", miss: "missed", fp: "false positive" };
  const firstOf = { miss: 0, hit: 1, fp: 2 };
  const PRINTED = 40;

  let shown = [], selected = null;
  let order = { key: "outcome", descending: false };
  let threshold = null;       // scores above it count; null: all candidates

  // ---- operating point: the slider's last position keeps every candidate
  const nScans = data.cases.length;
  const fps = data.cases.flatMap((c) => c.fps).sort((a, b) => b - a);
  const lesions = data.cases.flatMap((c) => c.lesions);
  const rates = [1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 4, 5, 6, 7, 8].filter((r) => r * nScans < fps.length);
  const names = { 0.125: "1/8", 0.25: "1/4", 0.5: "1/2" };
  rate.max = rates.length;
  rate.value = rates.length;

  const above = (score) => score !== null && (threshold === null || score > threshold);
  const percent = (n, of) => (of ? `${((100 * n) / of).toFixed(1)}%` : "–");

  function interval(r) {
    const { rates: at, pairs } = data.band;
    if (!pairs.length) return "";
    const nearest = at.reduce((best, value, i) => (Math.abs(value - r) < Math.abs(at[best] - r) ? i : best), 0);
    return ` (95% CI ${(100 * pairs[nearest][0]).toFixed(1)} to ${(100 * pairs[nearest][1]).toFixed(1)}%)`;
  }

  function setRate() {
    const chosen = rates[rate.value];
    threshold = chosen === undefined ? null : fps[Math.floor(chosen * nScans)];
    const name = chosen === undefined ? "all candidates" : `up to ${names[chosen] ?? chosen}`;
    byId("rate-at").textContent = name;
    rate.setAttribute("aria-valuetext", name);
    const found = lesions.filter(above).length, wrong = fps.filter(above).length;
    byId("operating").textContent = `Sensitivity ${percent(found, lesions.length)}`
      + `${chosen === undefined ? "" : interval(chosen)}: ${found} of ${lesions.length} lesion${lesions.length === 1 ? "" : "s"} found, `
      + `${lesions.length - found} missed, ${wrong} false positive${wrong === 1 ? "" : "s"} (${(wrong / nScans).toFixed(2)} per scan)`
      + (threshold === null ? "" : `, score above ${threshold.toFixed(3)}`);
    markPoint(wrong / nScans, lesions.length ? found / lesions.length : 0);
    drawCases();
    drawList();
  }

  // ---- the operating point on the curve: lines to both axes and a diamond.  The axis of false positives
  // is logarithmic, so a point beyond it is drawn at the edge.
  function markPoint(fpPerScan, sensitivity) {
    const svg = document.querySelector(".overview svg");
    if (!svg || !data.plot) return;
    const [left, top, width, height] = data.plot.box, [first, last] = data.plot.rates;
    const along = Math.log(Math.max(first, fpPerScan) / first) / Math.log(last / first);
    const x = left + width * Math.min(1, along), y = top + height * (1 - sensitivity / data.plot.top);
    let mark = svg.querySelector("#point");
    if (!mark) {
      mark = document.createElementNS(svg.namespaceURI, "g");
      mark.id = "point";
      svg.append(mark);
    }
    const right = x > left + width / 2, label = `${percent(Math.round(sensitivity * lesions.length), lesions.length)} at ${fpPerScan.toFixed(2)} FP`;
    mark.innerHTML = `<path class="lines" d="M ${left} ${y} H ${x} V ${top + height}"/>`
      + `<path class="diamond" d="M ${x - 6} ${y} L ${x} ${y - 6} L ${x + 6} ${y} L ${x} ${y + 6} Z"/>`
      + `<text x="${right ? x - 9 : x + 9}" y="${Math.max(y + 18, top + 12)}" text-anchor="${right ? "end" : "start"}">${label}</text>`;
  }

  const outcome = (f) => (f.outcome === "hit" && !above(f.score) ? "miss" : f.outcome);
  const counted = (f) => f.outcome !== "fp" || above(f.score);

  // ---- scans
  function drawCases() {
    const body = byId("cases").tBodies[0];
    body.replaceChildren();
    for (const c of data.cases) {
      const row = body.insertRow(), button = document.createElement("button");
      const found = c.lesions.filter(above).length;
      button.type = "button";
      button.textContent = c.uid;
      button.addEventListener("click", () => {
        byId("scan-filter").value = c.uid;
        drawList();
        byId("findings").scrollIntoView();
      });
      row.insertCell().append(button);
      for (const n of [c.lesions.length, found, c.lesions.length - found, c.fps.filter(above).length])
        row.insertCell().textContent = n;
    }
  }

  // ---- list: filter, sort, draw
  const number = (id) => { const v = parseFloat(byId(id).value); return Number.isNaN(v) ? null : v; };

  function accepted(f) {
    const outcomes = [...document.querySelectorAll("input[name=outcome]:checked")].map((e) => e.value);
    const low = number("min-diameter"), high = number("max-diameter"), score = number("min-score");
    const part = byId("scan-filter").value.trim();
    return counted(f) && outcomes.includes(outcome(f))
      && (low === null || (f.diameter_mm !== null && f.diameter_mm >= low))
      && (high === null || (f.diameter_mm !== null && f.diameter_mm <= high))
      && (score === null || (f.score !== null && f.score >= score))
      && (part === "" || f.scan.includes(part));
  }

  function compare(a, b) {
    if (order.key === "outcome") {       // missed first; within an outcome the largest or strongest
      const by = firstOf[outcome(a)] - firstOf[outcome(b)];
      if (by) return order.descending ? -by : by;
      return outcome(a) === "miss" ? b.diameter_mm - a.diameter_mm : (b.score ?? 0) - (a.score ?? 0);
    }
    const x = a[order.key], y = b[order.key];
    if (x === y) return a.id - b.id;
    if (x === null) return 1;            // without a value: last in either order
    if (y === null) return -1;
    const sign = typeof x === "string" ? x.localeCompare(y) : x - y;
    return order.descending ? -sign : sign;
  }

  const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));

  function cell(row, text, kind) {
    const td = row.insertCell();
    td.textContent = text;
    td.className = kind;
    return td;
  }

  // An id that is too long keeps its end, as much as tells the ids of this page apart.
  const uids = data.cases.map((c) => c.uid);
  let kept = 8;
  while (kept < 64 && new Set(uids.map((uid) => uid.slice(-kept))).size < new Set(uids).size) kept++;
  const shortened = (uid) => (uid.length > kept + 4 ? `…${uid.slice(-kept)}` : uid);

  function drawList() {
    shown = data.findings.filter(accepted).sort(compare);
    rowsElement.replaceChildren();
    for (const f of shown) {
      const row = rowsElement.insertRow(), mark = document.createElement("span");
      row.dataset.id = f.id;
      mark.className = "mark " + outcome(f);
      cell(row, words[outcome(f)], "text").prepend(mark);
      cell(row, f.diameter_mm === null ? "–" : f.diameter_mm.toFixed(1) + " mm", "");
      cell(row, fixed(f.score, 3), "");
      cell(row, fixed(f.fp_per_scan, 2), "");
      cell(row, shortened(f.scan), "scan").title = f.scan;
      row.addEventListener("click", () => select(f));
    }
    byId("count").textContent = `${shown.length} of ${data.findings.filter(counted).length} findings`;
    for (const th of document.querySelectorAll("th[data-key]")) {
      const mine = th.dataset.key === order.key;
      th.setAttribute("aria-sort", mine ? (order.descending ? "descending" : "ascending") : "none");
    }
    select(shown.includes(selected) ? selected : (shown[0] ?? null));
  }

  // ---- selection: one row takes the focus, and arrow keys move it
  async function select(f, focus = false) {
    selected = f;
    for (const row of rowsElement.rows) {
      const mine = f !== null && +row.dataset.id === f.id;
      row.setAttribute("aria-current", mine);
      row.tabIndex = mine ? 0 : -1;
      if (mine && focus) row.focus({ preventScroll: true });
    }
    viewerElement.hidden = f === null;
    if (f !== null) byId("caption").textContent = caption(f);
    if (await viewer.show(f, f && outcome(f))) viewerElement.dataset.shows = f.id;
  }

  function move(step, focus = false) {
    const next = shown[shown.indexOf(selected) + step];
    if (!next) return;
    select(next, focus);
    const row = rowsElement.querySelector("[aria-current=true]"), list = byId("list");
    const top = row.offsetTop - rowsElement.offsetTop;
    if (top < list.scrollTop || top + 3 * row.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top;
  }

  function caption(f) {
    const where = f.world_mm.map((v) => v.toFixed(1)).join(", ");
    const parts = [words[outcome(f)], `at (${where}) mm LPS`];
    if (f.diameter_mm !== null) parts.push(`${f.diameter_mm.toFixed(1)} mm`);
    if (f.score !== null) parts.push(`score ${f.score.toFixed(3)}`);
    if (f.fp_per_scan !== null) parts.push(`reached at ${f.fp_per_scan.toFixed(2)} false positives per scan`);
    if (f.note) parts.push(f.note);
    return `${f.scan}: ${parts.join(", ")}`;
  }

  function follow() {
    const found = /^#finding-(\d+)$/.exec(location.hash), f = found && data.findings[+found[1]];
    if (!f) return;
    if (!shown.includes(f)) {
      byId("filters").reset();
      rate.value = rates.length;
      setRate();
    }
    select(f, true);
    byId("findings").scrollIntoView();
  }

  // ---- print: the findings that the list shows
  async function printShown() {
    const before = selected, section = byId("printed");
    section.replaceChildren();
    if (shown.length > PRINTED) section.append(`The first ${PRINTED} of ${shown.length} findings of the list.`);
    for (const f of shown.slice(0, PRINTED)) {
      await select(f);
      const figure = document.createElement("figure"), text = document.createElement("figcaption");
      text.textContent = `${byId("caption").textContent}, ${viewer.slice()}`;
      figure.append(text, ...viewer.pictures().map((uri) => Object.assign(new Image(), { src: uri, alt: "" })));
      section.append(figure);
    }
    await Promise.all([...section.querySelectorAll("img")].map((image) => image.decode()));
    document.body.classList.add("printing");
    window.print();
    document.body.classList.remove("printing");
    select(before);
  }

  // ---- events
  rate.addEventListener("input", setRate);
  byId("filters").addEventListener("input", drawList);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("print").addEventListener("click", printShown);
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("circles").addEventListener("change", (event) => viewer.setCircles(event.target.checked));
  window.addEventListener("hashchange", follow);
  for (const th of document.querySelectorAll("th[data-key]"))
    th.firstElementChild.addEventListener("click", () => {
      const same = order.key === th.dataset.key;
      order = { key: th.dataset.key, descending: same ? !order.descending : th.dataset.key !== "outcome" };
      drawList();
    });
  document.querySelectorAll("button.window").forEach((button, i) => {
    button.addEventListener("click", () => viewer.setWindow(i));
  });
  for (const plane of viewer.planes) {
    const canvas = byId(plane);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      viewer.scroll(plane, Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) viewer.changeWindow(4 * event.movementX, -2 * event.movementY);
    });
    byId(plane + "-slider").addEventListener("input", (event) => viewer.to(plane, +event.target.value));
  }

  // Keys without Ctrl, Cmd or Alt only, so that the browser keeps its own; up and down scroll the page
  // unless a row or a slice has the focus.
  const keys = {
    n: () => move(1), p: () => move(-1),
    c: () => { byId("circles").checked = viewer.toggleCircles(); },
  };
  data.windows.forEach((w, i) => { keys[w.key] = () => viewer.setWindow(i); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const focus = document.activeElement, plane = viewer.planes.includes(focus?.id) ? focus.id : null;
    const onRow = focus?.parentElement === rowsElement;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    let action = keys[event.key];
    if (step && sideways && !focus?.classList.contains("scroll")) action = () => viewer.scroll(plane ?? "axial", step);
    else if (step && plane) action = () => viewer.scroll(plane, step);
    else if (step && onRow) action = () => move(step, true);
    if (!action) return;
    event.preventDefault();
    action();
  });

  setRate();
  follow();
})();
