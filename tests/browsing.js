// What tests look for on a page, by name: see `Visit.look`.
({
  // Text that does not stand out from what is behind it: a contrast below 4.5, below 3 for large text (WCAG 2.1, AA).
  contrast: () => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (text) => {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
    };
    const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
    const light = (c) => {
      const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      const layers = [];
      for (let e = element; e; e = e.parentElement) {
        const colour = rgba(getComputedStyle(e).backgroundColor);
        if (colour[3] > 0) layers.push(colour);
        if (colour[3] >= 1) break;
      }
      return layers.reduceRight((under, top) => over(top, under), [255, 255, 255, 1]);
    };
    const faint = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.textContent.trim() || element.closest("svg, script, style, noscript")) continue;
      if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
      const box = element.getBoundingClientRect();
      if (box.width < 2 || box.height < 2) continue;
      const style = getComputedStyle(element), back = behind(element), ink = over(rgba(style.color), back);
      const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < (large ? 3 : 4.5)) {
        const where = element.tagName.toLowerCase() + [...element.classList].map((c) => "." + c).join("");
        faint.set(where, `${where} (${ratio.toFixed(2)}): ${node.textContent.trim().slice(0, 40)}`);
      }
    }
    return [...faint.values()];
  },

  // Addresses on this server that the page leads to.
  links: () => [...document.querySelectorAll("a[href]")].map((a) => a.href)
    .filter((h) => h.startsWith(location.origin)).map((h) => h.slice(location.origin.length + 1)),

  anchors: () => [...document.querySelectorAll("[id]")].map((e) => e.id),

  withoutWords: () => [...document.images].filter((i) => !(i.getAttribute("alt") || "").trim())
    .map((i) => i.outerHTML.slice(0, 120)),

  // The last elements that reach beyond the window.
  wide: () => document.documentElement.scrollWidth > window.innerWidth + 1 ? [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1).slice(-3).map((e) => e.outerHTML.slice(0, 160)) : [],

  // What is seen on paper of elements by these names, what follows links, and what is broken between sheets.
  paper: (names) => {
    const seen = (name) => [...document.querySelectorAll(name)].some(
      (e) => e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true }) && e.getBoundingClientRect().height > 0);
    const after = (name) => getComputedStyle(document.querySelector(name), "::after").content;
    return {
      seen: names.filter(seen),
      address: after("#a-chapter a.external"), inside: after("a.internal"), repeated: after("#works-cited-in-this-chapter a"),
      whole: ["figure", "tr", ".kc-quiz", "pre"].map((name) => getComputedStyle(document.querySelector(name)).breakInside),
    };
  },
})
