const api = document.querySelector("meta[name=api]").content;
const toast = document.querySelector("#health");

async function load() {
  const health = await (await fetch(`${api}/api/health`)).json();
  toast.textContent = `database ${health.services.database}, api ${health.services.api}`;
  const auctions = await (await fetch(`${api}/api/auctions`)).json();
  document.querySelector("#auctions").replaceChildren(...auctions.map(row));
}

function row(auction) {
  const line = document.createElement("tr");
  for (const value of [auction.player, auction.status, auction.highest_bid ?? "none yet"]) {
    line.insertCell().textContent = value;
  }
  return line;
}

load().catch(() => (toast.textContent = "Connection lost"));
