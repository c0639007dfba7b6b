"use strict";
// Shows the values under the pointer of every line chart, and sorts tables by a column. The page is whole without it.
for (const svg of document.querySelectorAll("svg[data-series]")) {
  const series = JSON.parse(svg.dataset.series), figure = svg.closest("figure");
  const width = svg.viewBox.baseVal.width, reading = document.createElement("div");
  reading.className = "reading"; reading.hidden = true; reading.setAttribute("aria-hidden", "true"); figure.append(reading);
  const mark = document.createElementNS(svg.namespaceURI, "line");
  mark.setAttribute("class", "reference"); mark.setAttribute("y1", 8); mark.setAttribute("y2", svg.viewBox.baseVal.height - 36);
  const show = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
    const near = series.map(one => one.points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    const first = near.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    mark.setAttribute("x1", first[0]); mark.setAttribute("x2", first[0]); svg.append(mark);
    reading.replaceChildren(first[2]);
    near.forEach((point, number) => {
      const row = document.createElement("div"), key = document.createElement("i");
      key.className = "key s" + series[number].colour;
      row.append(key, (series[number].name ? series[number].name + " " : "") + point[3]);
      reading.append(row);
    });
    reading.hidden = false;
    const at = first[0] / width * box.width, left = at > box.width / 2 ? at - reading.offsetWidth - 4 : at + 24;
    reading.style.left = Math.max(0, left) + "px"; reading.style.top = svg.offsetTop + 8 + "px";
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerleave", () => { reading.hidden = true; mark.remove(); });
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes); head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending", body = table.tBodies[0];
      const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)], numbers = [Number(x), Number(y)];
        return numbers.some(Number.isNaN) || x === "" || y === "" ? x.localeCompare(y) : numbers[0] - numbers[1];
      };
      table.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...body.rows].sort((a, b) => down ? compare(b, a) : compare(a, b)));
    });
  });
}
