"use strict";
// One piece plays at a time; its cursor follows, and the window with it.
const cards = [...document.querySelectorAll(".card")].filter((card) => card.querySelector("audio"));

for (const card of cards) {
  const audio = card.querySelector("audio");
  const seconds = Number(card.dataset.seconds) || 1;
  const cursor = card.querySelector(".cursor");
  const music = card.querySelector(".music");
  const roll = card.querySelector(".window");

  const follow = () => {
    if (!cursor) return;
    const share = Math.min(audio.currentTime / seconds, 1);
    cursor.style.left = `${100 * share}%`;
    const x = share * music.clientWidth;
    const ahead = x - roll.scrollLeft;
    if (roll.scrollWidth > roll.clientWidth && (ahead > 0.85 * roll.clientWidth || ahead < 0)) {
      roll.scrollLeft = x - 0.15 * roll.clientWidth;
    }
  };
  const step = () => {
    follow();
    if (!audio.paused) requestAnimationFrame(step);
  };
  audio.addEventListener("play", () => {
    for (const other of cards) if (other !== card) other.querySelector("audio").pause();
    card.classList.add("playing");
    requestAnimationFrame(step);
  });
  audio.addEventListener("pause", () => card.classList.remove("playing"));
  audio.addEventListener("timeupdate", follow);
  audio.addEventListener("seeked", follow);
  if (music) {
    music.addEventListener("click", (event) => {
      const box = music.getBoundingClientRect();
      audio.currentTime = (seconds * (event.clientX - box.left)) / box.width;
      audio.play();
    });
  }
}

let current = -1;
document.addEventListener("focusin", (event) => {
  const card = event.target.closest(".card");
  if (card) current = cards.indexOf(card);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !cards.length) return;
  if (event.target.closest("input, textarea, select")) return;
  const key = event.key.toLowerCase();
  if (key === "j" || key === "k") {
    current = Math.min(Math.max(current + (key === "j" ? 1 : -1), 0), cards.length - 1);
    const audio = cards[current].querySelector("audio");
    audio.focus({ preventScroll: true });
    cards[current].scrollIntoView({ block: "nearest" });
  } else if (key === "p") {
    const audio = cards[Math.max(current, 0)].querySelector("audio");
    if (audio.paused) audio.play();
    else audio.pause();
  } else if ((key === "arrowleft" || key === "arrowright") && event.target.tagName !== "AUDIO") {
    const audio = cards[Math.max(current, 0)].querySelector("audio");
    audio.currentTime = Math.max(audio.currentTime + (key === "arrowright" ? 5 : -5), 0);
  }
});
