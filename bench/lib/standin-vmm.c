// A VMM that answers Firecracker's API at once and runs nothing: what is left of a start is the host's work.
//
// It notes on CLOCK_MONOTONIC, which is Node's process.hrtime(), when it ran, listened, was first asked, and was
// told to start the guest (STANDIN_REPORT); then it says on the control drive what a guest would whose process ran
// and ended (STANDIN_STATUS holds that slot) and ends. A machine without a control drive is the trial of KVM.
// A guest that shall be kept says that it is ready, and ends when it has been kept; to go on from a snapshot is to start.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define STATUS_OFFSET 4096

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void answer(int client, const char *text) {
  if (write(client, text, strlen(text)) < 0) exit(3);
}

// Copies the value of the JSON string field `name`; the client is firectl, which escapes nothing in its paths here.
static int field(const char *body, const char *name, char *value, size_t size) {
  const char *at = strstr(body, name);
  if (at == NULL) return 0;
  at += strlen(name);
  size_t length = strcspn(at, "\"");
  if (length >= size) return 0;
  memcpy(value, at, length);
  value[length] = 0;
  return 1;
}

static void copy_status(const char *drive) {
  char slot[4096];
  int from = open(getenv("STANDIN_STATUS"), O_RDONLY), to = open(drive, O_WRONLY);
  ssize_t length = read(from, slot, sizeof slot);
  if (length <= 0 || pwrite(to, slot, length, STATUS_OFFSET) != length) exit(4);
}

static void report_start(double ran, double listened, double asked, int calls) {
  double started = now_ms();
  FILE *report = fopen(getenv("STANDIN_REPORT"), "w");
  fprintf(report, "{\"ran\":%f,\"listened\":%f,\"asked\":%f,\"started\":%f,\"calls\":%d}\n", ran, listened, asked,
          started, calls);
  fclose(report);
}

// As a guest does over vsock: Firecracker runs in the VM's runtime directory.
static void say_ready(void) {
  struct sockaddr_un host = {.sun_family = AF_UNIX, .sun_path = "v.sock_1025"};
  int guest = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(guest, (struct sockaddr *)&host, sizeof host) != 0 || write(guest, "r", 1) != 1) exit(5);
}

static void make_file(const char *body, const char *name) {
  char file[4096];
  if (!field(body, name, file, sizeof file) || close(open(file, O_WRONLY | O_CREAT, 0600)) != 0) exit(6);
}

int main(int argc, char **argv) {
  double ran = now_ms(), listened, asked = 0;
  const char *path = NULL;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--version") == 0) return puts("Firecracker v1.17.0") < 0;
    if (strcmp(argv[i], "--api-sock") == 0 && i + 1 < argc) path = argv[i + 1];
  }
  if (path == NULL) return 2;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 8) != 0) return 1;
  listened = now_ms();
  char drive[4096] = "";
  static char request[65536];
  int calls = 0, kept = 0;
  for (;;) {
    int client = accept(server, NULL, NULL);
    if (client < 0) return 1;
    size_t have = 0;
    for (;;) {
      char *head;
      request[have] = 0;
      while ((head = strstr(request, "\r\n\r\n")) == NULL) {
        ssize_t got = read(client, request + have, sizeof request - 1 - have);
        if (got <= 0) goto closed;
        have += got;
        request[have] = 0;
      }
      if (asked == 0) asked = now_ms();
      calls++;
      char *body = head + 4, *length_field = strcasestr(request, "\r\nContent-Length:");
      size_t length = length_field != NULL && length_field < head ? strtoul(length_field + 17, NULL, 10) : 0;
      while (have < (size_t)(body - request) + length) {
        ssize_t got = read(client, request + have, sizeof request - 1 - have);
        if (got <= 0) goto closed;
        have += got;
        request[have] = 0;
      }
      if (strncmp(request, "GET", 3) == 0) {
        answer(client, "HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"
                       "{\"firecracker_version\":\"1.17.0\"}");
      } else {
        if (strncmp(request, "PUT /drives/control ", 20) == 0)
          field(body, "\"path_on_host\":\"", drive, sizeof drive);
        if (strncmp(request, "PUT /boot-source ", 17) == 0) kept = strstr(body, "firectl.snapshot=") != NULL;
        if (strncmp(request, "PUT /snapshot/create ", 21) == 0) {
          make_file(body, "\"snapshot_path\":\"");
          make_file(body, "\"mem_file_path\":\"");
        }
        int restores = strncmp(request, "PUT /snapshot/load ", 19) == 0;
        int starts = strncmp(request, "PUT /actions ", 13) == 0;
        if (restores) strcpy(drive, "drive-control");
        if (restores || (starts && *drive != 0)) report_start(ran, listened, asked, calls);
        if (starts && kept) say_ready();
        int resumes = strncmp(request, "PATCH /vm ", 10) == 0 && strstr(body, "Resumed") != NULL;
        if (restores || resumes || (starts && !kept)) {
          answer(client, "HTTP/1.1 204 \r\n\r\n");
          if (*drive != 0) copy_status(drive);
          return 0;
        }
        answer(client, "HTTP/1.1 204 \r\n\r\n");
      }
      size_t used = (body - request) + length;
      memmove(request, request + used, have - used);
      have -= used;
    }
  closed:
    close(client);
  }
}
