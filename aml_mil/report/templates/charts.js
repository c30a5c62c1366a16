// Draws the charts and gives them the colours of the page, light or dark.
(async () => {
  const LEGEND_ENTRY_PX = 260;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = () => Bokeh.documents.flatMap((document) => document.roots());
  const colour = (plot) => {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--text").trim();
    const line = style.getPropertyValue("--line").trim();
    for (const axis of [...plot.left, ...plot.below].filter((part) => part.type.endsWith("Axis"))) {
      axis.axis_label_text_color = text;
      axis.major_label_text_color = text;
      axis.axis_line_color = line;
      axis.major_tick_line_color = line;
      axis.minor_tick_line_color = null;
    }
    for (const part of [...plot.center, ...plot.above, ...plot.below]) {
      if (part.type === "Grid") part.grid_line_color = line;
      if (part.type === "Legend") part.label_text_color = text;
    }
    for (const drawn of plot.renderers) {
      if (drawn.name === "ink") drawn.glyph.line_color = { value: text };
    }
  };
  const arrangeLegend = (plot) => {
    for (const part of plot.below) {
      if (part.type === "Legend") {
        const columns = Math.floor(document.querySelector("main").clientWidth / plot.tags[0] / LEGEND_ENTRY_PX);
        part.ncols = Math.max(1, columns);
      }
    }
  };
  for (const data of document.querySelectorAll("script[data-chart]")) {
    await Bokeh.embed.embed_item(JSON.parse(data.textContent));
  }
  const arrangeAll = () => plots().forEach(arrangeLegend);
  const colourAll = () => plots().forEach(colour);
  arrangeAll();
  colourAll();
  addEventListener("resize", arrangeAll);
  dark.addEventListener("change", colourAll);
  document.documentElement.dataset.ready = "true";
})();
