// Draws the pictures of the page, each when it comes near the window, and follows their controls.
"use strict";
(() => {
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
    hoverlabel: { align: "left", bgcolor: "#fff", font: { color: "#1d1d1f", size: 13 } },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 },
    xaxis: { automargin: true, zeroline: false, title: { font: { size: 13 } } },
    yaxis: { automargin: true, zeroline: false, title: { font: { size: 13 } } },
  };
  const title = { title: { font: { size: 11 } } };
  const small = { xaxis: title, yaxis: title, font: { size: 11 }, margin: { l: 44, r: 8, t: 8, b: 44 }, dragmode: false };

  class Picture {
    constructor(figure) {
      this.place = figure.querySelector(".plot");
      this.content = JSON.parse(figure.querySelector("script").textContent);
      this.control = figure.querySelector(".control select, .control input");
      this.output = figure.querySelector(".control output");
      this.number = this.content.start;
      this.drawn = false;
      this.control?.addEventListener("input", () => this.choose(Number(this.control.value)));
    }

    choose(number) {
      this.number = number;
      if (this.output) this.output.textContent = this.content.labels[number];
      this.draw();
    }

    draw() {
      this.drawn = true;
      const frame = this.content.frames[this.number];
      const layouts = narrow.matches
        ? [common, small, this.content.layout, frame.layout, frame.narrow]
        : [common, this.content.layout, frame.layout];
      const config = { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover" };
      // plotly.js writes into what it is given
      const copy = structuredClone({ data: frame.data, layout: merged(...layouts) });
      return Plotly.react(this.place, copy.data, copy.layout, config);
    }
  }

  const pictures = [...document.querySelectorAll(".picture")].map((figure) => new Picture(figure));
  const drawMissing = () => pictures.filter((picture) => !picture.drawn).forEach((picture) => picture.draw());
  pictures[0]?.draw().then(() => performance.mark("first picture"));
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
})();
