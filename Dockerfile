FROM node:22-bookworm-slim AS pages
WORKDIR /web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web .
RUN npm run build

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# Built pages that are newer than their sources are taken as they are; this image has no Node.
COPY --from=pages /web/dist web/dist
RUN touch web/dist/index.html
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --home-dir /data relay && install -d -o relay /data
COPY --from=build /src/target/release/claude-relay /usr/local/bin/
USER relay
WORKDIR /data
ENV DATA_DIR=/data
VOLUME /data
EXPOSE 3000
# Docker waits 10 s before it kills; give running answers most of that, or raise both.
ENV SHUTDOWN_GRACE=8000
CMD ["claude-relay"]
