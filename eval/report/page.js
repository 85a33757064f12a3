// Draws the pictures of the page, each when it comes near the window, and follows their controls.
//
// It runs before plotly.js is read, which takes a second or more on a slow machine, and sketches the first
// picture until then; `page.start` is called behind plotly.js.
"use strict";
const page = (() => {
  const narrow = matchMedia("(max-width: 760px)");
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  function merged(...layouts) {
    const found = {};
    for (const layout of layouts) {
      for (const [key, value] of Object.entries(layout)) {
        found[key] = isObject(value) ? merged(isObject(found[key]) ? found[key] : {}, value) : value;
      }
    }
    return found;
  }

  const common = {
    font: { family: "system-ui, sans-serif", size: 13, color: "#1d1d1f" },
    margin: { l: 64, r: 16, t: 12, b: 56 },
    hoverlabel: { align: "left", bgcolor: "#fff", font: { family: "system-ui, sans-serif", color: "#1d1d1f", size: 13 } },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 },
    xaxis: { automargin: true, zeroline: false, title: { font: { size: 13 } } },
    yaxis: { automargin: true, zeroline: false, title: { font: { size: 13 } } },
  };
  const title = { title: { font: { size: 11 } }, fixedrange: true };
  const small = { xaxis: title, yaxis: title, font: { size: 11 }, margin: { l: 44, r: 8, t: 8, b: 44 }, dragmode: false };

  // Pixels that a legend of many names takes on a narrow screen, beyond those of a short one.
  function legendHeight(data) {
    const names = data.filter((trace) => trace.name !== undefined && trace.showlegend !== false).length;
    return 11 * Math.max(0, names - 4);
  }

  // Axes, lines, marks and names, about where plotly.js will put them.
  function sketched(data, layout, width, height) {
    const { l, r, t, b } = layout.margin;
    const right = width - r;
    const bottom = height - b - 30;
    const values = (key) => data.flatMap((trace) => trace[key]).filter((value) => value !== null);
    const [x0, x1] = layout.xaxis.range ?? [0, 1.05 * Math.max(...values("x"))];
    const [y0, y1] = layout.yaxis.range ?? [0, 1.05 * Math.max(...values("y"))];
    const across = (x) => l + ((x - x0) / (x1 - x0)) * (right - l);
    const down = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - t);
    const svg = element("svg", { class: "sketch", width, height });
    const text = (words, x, y, anchor, size) => {
      const node = element("text", { x, y, "text-anchor": anchor, "font-size": size, fill: "#1d1d1f" });
      node.textContent = words;
      svg.append(node);
    };
    const size = layout.font.size;
    for (const x of ticks(x0, x1)) {
      svg.append(element("path", { d: `M${across(x)} ${t}V${bottom}`, stroke: "#eee" }));
      text(x, across(x), bottom + 18, "middle", size);
    }
    for (const y of ticks(y0, y1)) {
      svg.append(element("path", { d: `M${l} ${down(y)}H${right}`, stroke: "#eee" }));
      text(y, l - 6, down(y) + 4, "end", size);
    }
    for (const trace of data.filter((one) => one.line?.width !== 0)) {
      const places = trace.x.map((x, n) => [across(x), down(trace.y[n])]);
      if (trace.mode.includes("lines")) {
        svg.append(element("path", { d: `M${places.join("L")}`, fill: "none", stroke: trace.line.color }));
      }
      const fill = trace.marker?.color ?? trace.line?.color;
      const marked = trace.mode.includes("markers") ? places : [];
      for (const [cx, cy] of marked) svg.append(element("circle", { cx, cy, r: 5, fill }));
    }
    for (const { x, y, ax, ay, text: name, font } of layout.annotations ?? []) {
      const words = new DOMParser().parseFromString(name, "text/html").body.textContent;
      text(words, across(x) + ax, down(y) + ay + 4, "middle", font.size);
    }
    return svg;
  }

  // Round numbers of an axis, at least three.
  function ticks(low, high) {
    const power = 10 ** Math.floor(Math.log10((high - low) / 3));
    const step = [5, 2, 1].map((factor) => factor * power).find((one) => (high - low) / one >= 3);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, n) => +((first + n) * step).toPrecision(6));
  }

  function element(name, attributes) {
    const found = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  }

  class Picture {
    constructor(figure) {
      this.place = figure.querySelector(".plot");
      this.content = JSON.parse(figure.querySelector("script").textContent);
      this.control = figure.querySelector(".control select, .control input");
      this.output = figure.querySelector(".control output");
      this.number = this.content.start;
      this.height = this.place.clientHeight;
      this.drawn = false;
      this.control?.addEventListener("input", () => this.choose(Number(this.control.value)));
    }

    choose(number) {
      this.number = number;
      if (this.output) this.output.textContent = this.content.labels[number];
      this.draw();
    }

    figure() {
      const frame = this.content.frames[this.number];
      const layouts = narrow.matches
        ? [common, small, this.content.layout, frame.layout, frame.narrow]
        : [common, this.content.layout, frame.layout];
      // plotly.js writes into what it is given
      return structuredClone({ data: frame.data, layout: merged(...layouts) });
    }

    async draw() {
      this.drawn = true;
      const { data, layout } = this.figure();
      this.place.style.height = `${this.height + (narrow.matches ? legendHeight(data) : 0)}px`;
      const config = { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover", doubleClick: narrow.matches ? false : "reset" };
      await Plotly.react(this.place, data, layout, config);
      this.place.querySelector(".sketch")?.remove();
    }

    sketch() {
      const { data, layout } = this.figure();
      const drawable = data.every((trace) => trace.type === "scatter") && layout.xaxis.type !== "log";
      if (!drawable) return;
      this.place.append(sketched(data, layout, this.place.clientWidth, this.place.clientHeight));
      performance.mark("first picture");
    }
  }

  const pictures = [...document.querySelectorAll(".picture")].map((figure) => new Picture(figure));
  const drawMissing = () => pictures.filter((picture) => !picture.drawn).forEach((picture) => picture.draw());
  pictures[0]?.sketch();

  function start() {
    pictures[0]?.draw().then(() => performance.mark("first plot"));
    const observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries.filter((one) => one.isIntersecting)) {
          observer.unobserve(entry.target);
          const picture = pictures.find((one) => one.place === entry.target);
          if (!picture.drawn) picture.draw();
        }
      },
      { rootMargin: "800px" },
    );
    pictures.forEach((picture) => observer.observe(picture.place));
    narrow.addEventListener("change", () => pictures.filter((one) => one.drawn).forEach((one) => one.draw()));
    addEventListener("beforeprint", drawMissing);
  }

  return { start };
})();
