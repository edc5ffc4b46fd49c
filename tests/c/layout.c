/* The header, checked from its own side: frozen values, sizes and offsets as numbers, every macro and every
 * function used. C99 and C++11. */
#include "check.h"

/* A condition that the compiler checks. */
#define STATIC(name, condition) typedef char static_##name[(condition) ? 1 : -1]

STATIC(rk_runtime_options_t_size, sizeof(rk_runtime_options_t) == 88);
STATIC(rk_runtime_options_t_struct_size, offsetof(rk_runtime_options_t, struct_size) == 0);
STATIC(rk_runtime_options_t_backend, offsetof(rk_runtime_options_t, backend) == 4);
STATIC(rk_runtime_options_t_device_index, offsetof(rk_runtime_options_t, device_index) == 8);
STATIC(rk_runtime_options_t_worker_threads, offsetof(rk_runtime_options_t, worker_threads) == 12);
STATIC(rk_runtime_options_t_kernels_max, offsetof(rk_runtime_options_t, kernels_max) == 16);
STATIC(rk_runtime_options_t_event_capacity, offsetof(rk_runtime_options_t, event_capacity) == 20);
STATIC(rk_runtime_options_t_reserved, offsetof(rk_runtime_options_t, reserved) == 24);
STATIC(rk_timestamp_t_size, sizeof(rk_timestamp_t) == 16);
STATIC(rk_timestamp_t_physical_ns, offsetof(rk_timestamp_t, physical_ns) == 0);
STATIC(rk_timestamp_t_logical, offsetof(rk_timestamp_t, logical) == 8);
STATIC(rk_timestamp_t_node, offsetof(rk_timestamp_t, node) == 12);
STATIC(rk_message_t_size, sizeof(rk_message_t) == 72);
STATIC(rk_message_t_payload, offsetof(rk_message_t, payload) == 0);
STATIC(rk_message_t_payload_size, offsetof(rk_message_t, payload_size) == 8);
STATIC(rk_message_t_type, offsetof(rk_message_t, type) == 16);
STATIC(rk_message_t_block, offsetof(rk_message_t, block) == 20);
STATIC(rk_message_t_correlation, offsetof(rk_message_t, correlation) == 24);
STATIC(rk_message_t_source, offsetof(rk_message_t, source) == 32);
STATIC(rk_message_t_deadline_ns, offsetof(rk_message_t, deadline_ns) == 40);
STATIC(rk_message_t_timestamp, offsetof(rk_message_t, timestamp) == 48);
STATIC(rk_message_t_lease, offsetof(rk_message_t, lease) == 64);
STATIC(rk_program_t_size, sizeof(rk_program_t) == 160);
STATIC(rk_program_t_struct_size, offsetof(rk_program_t, struct_size) == 0);
STATIC(rk_program_t_flags, offsetof(rk_program_t, flags) == 4);
STATIC(rk_program_t_name, offsetof(rk_program_t, name) == 8);
STATIC(rk_program_t_on_message, offsetof(rk_program_t, on_message) == 16);
STATIC(rk_program_t_on_start, offsetof(rk_program_t, on_start) == 24);
STATIC(rk_program_t_on_stop, offsetof(rk_program_t, on_stop) == 32);
STATIC(rk_program_t_user_data, offsetof(rk_program_t, user_data) == 40);
STATIC(rk_program_t_drop_user_data, offsetof(rk_program_t, drop_user_data) == 48);
STATIC(rk_program_t_cuda_code_kind, offsetof(rk_program_t, cuda_code_kind) == 56);
STATIC(rk_program_t_cuda_code, offsetof(rk_program_t, cuda_code) == 64);
STATIC(rk_program_t_cuda_code_size, offsetof(rk_program_t, cuda_code_size) == 72);
STATIC(rk_program_t_cuda_handler, offsetof(rk_program_t, cuda_handler) == 80);
STATIC(rk_program_t_state_size, offsetof(rk_program_t, state_size) == 88);
STATIC(rk_program_t_reserved, offsetof(rk_program_t, reserved) == 96);
STATIC(rk_launch_options_t_size, sizeof(rk_launch_options_t) == 144);
STATIC(rk_launch_options_t_struct_size, offsetof(rk_launch_options_t, struct_size) == 0);
STATIC(rk_launch_options_t_mode, offsetof(rk_launch_options_t, mode) == 4);
STATIC(rk_launch_options_t_grid_size, offsetof(rk_launch_options_t, grid_size) == 8);
STATIC(rk_launch_options_t_block_size, offsetof(rk_launch_options_t, block_size) == 12);
STATIC(rk_launch_options_t_input_queue_capacity, offsetof(rk_launch_options_t, input_queue_capacity) == 16);
STATIC(rk_launch_options_t_output_queue_capacity, offsetof(rk_launch_options_t, output_queue_capacity) == 20);
STATIC(rk_launch_options_t_payload_size_max, offsetof(rk_launch_options_t, payload_size_max) == 24);
STATIC(rk_launch_options_t_shared_memory_size, offsetof(rk_launch_options_t, shared_memory_size) == 28);
STATIC(rk_launch_options_t_flags, offsetof(rk_launch_options_t, flags) == 32);
STATIC(rk_launch_options_t_wait_strategy, offsetof(rk_launch_options_t, wait_strategy) == 36);
STATIC(rk_launch_options_t_overflow, offsetof(rk_launch_options_t, overflow) == 40);
STATIC(rk_launch_options_t_restart, offsetof(rk_launch_options_t, restart) == 44);
STATIC(rk_launch_options_t_restart_max, offsetof(rk_launch_options_t, restart_max) == 48);
STATIC(rk_launch_options_t_cpu, offsetof(rk_launch_options_t, cpu) == 52);
STATIC(rk_launch_options_t_restart_window_ns, offsetof(rk_launch_options_t, restart_window_ns) == 56);
STATIC(rk_launch_options_t_restart_backoff_ns, offsetof(rk_launch_options_t, restart_backoff_ns) == 64);
STATIC(rk_launch_options_t_program, offsetof(rk_launch_options_t, program) == 72);
STATIC(rk_launch_options_t_reserved, offsetof(rk_launch_options_t, reserved) == 80);
STATIC(rk_kernel_status_t_size, sizeof(rk_kernel_status_t) == 96);
STATIC(rk_kernel_status_t_struct_size, offsetof(rk_kernel_status_t, struct_size) == 0);
STATIC(rk_kernel_status_t_state, offsetof(rk_kernel_status_t, state) == 4);
STATIC(rk_kernel_status_t_mode, offsetof(rk_kernel_status_t, mode) == 8);
STATIC(rk_kernel_status_t_backend, offsetof(rk_kernel_status_t, backend) == 12);
STATIC(rk_kernel_status_t_grid_size, offsetof(rk_kernel_status_t, grid_size) == 16);
STATIC(rk_kernel_status_t_restarts, offsetof(rk_kernel_status_t, restarts) == 20);
STATIC(rk_kernel_status_t_last_error, offsetof(rk_kernel_status_t, last_error) == 24);
STATIC(rk_kernel_status_t_reserved0, offsetof(rk_kernel_status_t, reserved0) == 28);
STATIC(rk_kernel_status_t_input_queue_depth, offsetof(rk_kernel_status_t, input_queue_depth) == 32);
STATIC(rk_kernel_status_t_output_queue_depth, offsetof(rk_kernel_status_t, output_queue_depth) == 40);
STATIC(rk_kernel_status_t_messages_processed, offsetof(rk_kernel_status_t, messages_processed) == 48);
STATIC(rk_kernel_status_t_uptime_ns, offsetof(rk_kernel_status_t, uptime_ns) == 56);
STATIC(rk_kernel_status_t_reserved, offsetof(rk_kernel_status_t, reserved) == 64);
STATIC(rk_kernel_t_size, sizeof(rk_kernel_t) == 8);
STATIC(rk_kernel_t_id, offsetof(rk_kernel_t, id) == 0);
STATIC(rk_op_t_size, sizeof(rk_op_t) == 8);
STATIC(rk_op_t_id, offsetof(rk_op_t, id) == 0);
STATIC(rk_loan_t_size, sizeof(rk_loan_t) == 24);
STATIC(rk_loan_t_payload, offsetof(rk_loan_t, payload) == 0);
STATIC(rk_loan_t_payload_size, offsetof(rk_loan_t, payload_size) == 8);
STATIC(rk_loan_t_lease, offsetof(rk_loan_t, lease) == 16);
STATIC(rk_dead_letter_t_size, sizeof(rk_dead_letter_t) == 88);
STATIC(rk_dead_letter_t_message, offsetof(rk_dead_letter_t, message) == 0);
STATIC(rk_dead_letter_t_kernel, offsetof(rk_dead_letter_t, kernel) == 72);
STATIC(rk_dead_letter_t_reason, offsetof(rk_dead_letter_t, reason) == 80);
STATIC(rk_dead_letter_t_status, offsetof(rk_dead_letter_t, status) == 84);
STATIC(rk_event_t_size, sizeof(rk_event_t) == 112);
STATIC(rk_event_t_kind, offsetof(rk_event_t, kind) == 0);
STATIC(rk_event_t_status, offsetof(rk_event_t, status) == 4);
STATIC(rk_event_t_user_data, offsetof(rk_event_t, user_data) == 8);
STATIC(rk_event_t_op, offsetof(rk_event_t, op) == 16);
STATIC(rk_event_t_kernel, offsetof(rk_event_t, kernel) == 24);
STATIC(rk_event_t_state, offsetof(rk_event_t, state) == 32);
STATIC(rk_event_t_flags, offsetof(rk_event_t, flags) == 36);
STATIC(rk_event_t_message, offsetof(rk_event_t, message) == 40);
STATIC(rk_runtime_metrics_t_size, sizeof(rk_runtime_metrics_t) == 168);
STATIC(rk_runtime_metrics_t_struct_size, offsetof(rk_runtime_metrics_t, struct_size) == 0);
STATIC(rk_runtime_metrics_t_backend, offsetof(rk_runtime_metrics_t, backend) == 4);
STATIC(rk_runtime_metrics_t_active_kernels, offsetof(rk_runtime_metrics_t, active_kernels) == 8);
STATIC(rk_runtime_metrics_t_total_launched, offsetof(rk_runtime_metrics_t, total_launched) == 16);
STATIC(rk_runtime_metrics_t_messages_sent, offsetof(rk_runtime_metrics_t, messages_sent) == 24);
STATIC(rk_runtime_metrics_t_messages_received, offsetof(rk_runtime_metrics_t, messages_received) == 32);
STATIC(rk_runtime_metrics_t_messages_processed, offsetof(rk_runtime_metrics_t, messages_processed) == 40);
STATIC(rk_runtime_metrics_t_messages_failed, offsetof(rk_runtime_metrics_t, messages_failed) == 48);
STATIC(rk_runtime_metrics_t_dead_letters, offsetof(rk_runtime_metrics_t, dead_letters) == 56);
STATIC(rk_runtime_metrics_t_dead_letters_dropped, offsetof(rk_runtime_metrics_t, dead_letters_dropped) == 64);
STATIC(rk_runtime_metrics_t_restarts, offsetof(rk_runtime_metrics_t, restarts) == 72);
STATIC(rk_runtime_metrics_t_gpu_memory_used_bytes, offsetof(rk_runtime_metrics_t, gpu_memory_used_bytes) == 80);
STATIC(rk_runtime_metrics_t_host_memory_used_bytes, offsetof(rk_runtime_metrics_t, host_memory_used_bytes) == 88);
STATIC(rk_runtime_metrics_t_uptime_ns, offsetof(rk_runtime_metrics_t, uptime_ns) == 96);
STATIC(rk_runtime_metrics_t_reserved, offsetof(rk_runtime_metrics_t, reserved) == 104);
STATIC(rk_latency_t_size, sizeof(rk_latency_t) == 64);
STATIC(rk_latency_t_count, offsetof(rk_latency_t, count) == 0);
STATIC(rk_latency_t_min_ns, offsetof(rk_latency_t, min_ns) == 8);
STATIC(rk_latency_t_mean_ns, offsetof(rk_latency_t, mean_ns) == 16);
STATIC(rk_latency_t_p50_ns, offsetof(rk_latency_t, p50_ns) == 24);
STATIC(rk_latency_t_p90_ns, offsetof(rk_latency_t, p90_ns) == 32);
STATIC(rk_latency_t_p99_ns, offsetof(rk_latency_t, p99_ns) == 40);
STATIC(rk_latency_t_p999_ns, offsetof(rk_latency_t, p999_ns) == 48);
STATIC(rk_latency_t_max_ns, offsetof(rk_latency_t, max_ns) == 56);
STATIC(rk_kernel_metrics_t_size, sizeof(rk_kernel_metrics_t) == 368);
STATIC(rk_kernel_metrics_t_struct_size, offsetof(rk_kernel_metrics_t, struct_size) == 0);
STATIC(rk_kernel_metrics_t_backend, offsetof(rk_kernel_metrics_t, backend) == 4);
STATIC(rk_kernel_metrics_t_state, offsetof(rk_kernel_metrics_t, state) == 8);
STATIC(rk_kernel_metrics_t_gpu_launched, offsetof(rk_kernel_metrics_t, gpu_launched) == 12);
STATIC(rk_kernel_metrics_t_messages_sent, offsetof(rk_kernel_metrics_t, messages_sent) == 16);
STATIC(rk_kernel_metrics_t_messages_received, offsetof(rk_kernel_metrics_t, messages_received) == 24);
STATIC(rk_kernel_metrics_t_messages_processed, offsetof(rk_kernel_metrics_t, messages_processed) == 32);
STATIC(rk_kernel_metrics_t_messages_failed, offsetof(rk_kernel_metrics_t, messages_failed) == 40);
STATIC(rk_kernel_metrics_t_messages_from_kernels, offsetof(rk_kernel_metrics_t, messages_from_kernels) == 48);
STATIC(rk_kernel_metrics_t_messages_to_kernels, offsetof(rk_kernel_metrics_t, messages_to_kernels) == 56);
STATIC(rk_kernel_metrics_t_dead_letters, offsetof(rk_kernel_metrics_t, dead_letters) == 64);
STATIC(rk_kernel_metrics_t_invocations, offsetof(rk_kernel_metrics_t, invocations) == 72);
STATIC(rk_kernel_metrics_t_bytes_to_device, offsetof(rk_kernel_metrics_t, bytes_to_device) == 80);
STATIC(rk_kernel_metrics_t_bytes_from_device, offsetof(rk_kernel_metrics_t, bytes_from_device) == 88);
STATIC(rk_kernel_metrics_t_gpu_memory_used_bytes, offsetof(rk_kernel_metrics_t, gpu_memory_used_bytes) == 96);
STATIC(rk_kernel_metrics_t_host_memory_used_bytes, offsetof(rk_kernel_metrics_t, host_memory_used_bytes) == 104);
STATIC(rk_kernel_metrics_t_input_queue_depth, offsetof(rk_kernel_metrics_t, input_queue_depth) == 112);
STATIC(rk_kernel_metrics_t_input_queue_depth_max, offsetof(rk_kernel_metrics_t, input_queue_depth_max) == 120);
STATIC(rk_kernel_metrics_t_output_queue_depth, offsetof(rk_kernel_metrics_t, output_queue_depth) == 128);
STATIC(rk_kernel_metrics_t_open_leases, offsetof(rk_kernel_metrics_t, open_leases) == 136);
STATIC(rk_kernel_metrics_t_oldest_lease_ns, offsetof(rk_kernel_metrics_t, oldest_lease_ns) == 144);
STATIC(rk_kernel_metrics_t_uptime_ns, offsetof(rk_kernel_metrics_t, uptime_ns) == 152);
STATIC(rk_kernel_metrics_t_restarts, offsetof(rk_kernel_metrics_t, restarts) == 160);
STATIC(rk_kernel_metrics_t_last_error, offsetof(rk_kernel_metrics_t, last_error) == 168);
STATIC(rk_kernel_metrics_t_reserved0, offsetof(rk_kernel_metrics_t, reserved0) == 172);
STATIC(rk_kernel_metrics_t_queue_ns, offsetof(rk_kernel_metrics_t, queue_ns) == 176);
STATIC(rk_kernel_metrics_t_handler_ns, offsetof(rk_kernel_metrics_t, handler_ns) == 240);
STATIC(rk_kernel_metrics_t_replies_late, offsetof(rk_kernel_metrics_t, replies_late) == 304);
STATIC(rk_kernel_metrics_t_reserved, offsetof(rk_kernel_metrics_t, reserved) == 312);

static const struct {
  const char *name;
  int64_t value, frozen;
} constants[] = {
    {"RK_FOREVER", (int64_t)RK_FOREVER, -1},
    {"RK_ANY_BLOCK", (int64_t)RK_ANY_BLOCK, 4294967295},
    {"RK_BACKEND_AUTO", (int64_t)RK_BACKEND_AUTO, 0},
    {"RK_BACKEND_CPU", (int64_t)RK_BACKEND_CPU, 1},
    {"RK_BACKEND_CUDA", (int64_t)RK_BACKEND_CUDA, 2},
    {"RK_CODE_NONE", (int64_t)RK_CODE_NONE, 0},
    {"RK_CODE_SOURCE", (int64_t)RK_CODE_SOURCE, 1},
    {"RK_CODE_PTX", (int64_t)RK_CODE_PTX, 2},
    {"RK_CODE_CUBIN", (int64_t)RK_CODE_CUBIN, 3},
    {"RK_MODE_AUTO", (int64_t)RK_MODE_AUTO, 0},
    {"RK_MODE_PERSISTENT", (int64_t)RK_MODE_PERSISTENT, 1},
    {"RK_MODE_EVENT_DRIVEN", (int64_t)RK_MODE_EVENT_DRIVEN, 2},
    {"RK_LAUNCH_SUSPENDED", (int64_t)RK_LAUNCH_SUSPENDED, 1},
    {"RK_LAUNCH_COOPERATIVE", (int64_t)RK_LAUNCH_COOPERATIVE, 2},
    {"RK_LAUNCH_SINGLE_SENDER", (int64_t)RK_LAUNCH_SINGLE_SENDER, 4},
    {"RK_LAUNCH_TIMESTAMPS", (int64_t)RK_LAUNCH_TIMESTAMPS, 8},
    {"RK_LAUNCH_NO_HELP", (int64_t)RK_LAUNCH_NO_HELP, 16},
    {"RK_WAIT_AUTO", (int64_t)RK_WAIT_AUTO, 0},
    {"RK_WAIT_SPIN", (int64_t)RK_WAIT_SPIN, 1},
    {"RK_WAIT_PARK", (int64_t)RK_WAIT_PARK, 2},
    {"RK_OVERFLOW_BLOCK", (int64_t)RK_OVERFLOW_BLOCK, 0},
    {"RK_OVERFLOW_DEAD_LETTER", (int64_t)RK_OVERFLOW_DEAD_LETTER, 1},
    {"RK_RESTART_NEVER", (int64_t)RK_RESTART_NEVER, 0},
    {"RK_RESTART_ON_FAILURE", (int64_t)RK_RESTART_ON_FAILURE, 1},
    {"RK_STATE_CREATED", (int64_t)RK_STATE_CREATED, 0},
    {"RK_STATE_LAUNCHED", (int64_t)RK_STATE_LAUNCHED, 1},
    {"RK_STATE_ACTIVE", (int64_t)RK_STATE_ACTIVE, 2},
    {"RK_STATE_DEACTIVATED", (int64_t)RK_STATE_DEACTIVATED, 3},
    {"RK_STATE_TERMINATING", (int64_t)RK_STATE_TERMINATING, 4},
    {"RK_STATE_TERMINATED", (int64_t)RK_STATE_TERMINATED, 5},
    {"RK_STATE_FAILED", (int64_t)RK_STATE_FAILED, 6},
    {"RK_DEAD_TERMINATED", (int64_t)RK_DEAD_TERMINATED, 1},
    {"RK_DEAD_HANDLER", (int64_t)RK_DEAD_HANDLER, 2},
    {"RK_DEAD_EXPIRED", (int64_t)RK_DEAD_EXPIRED, 3},
    {"RK_DEAD_OVERFLOW", (int64_t)RK_DEAD_OVERFLOW, 4},
    {"RK_DEAD_NO_ROUTE", (int64_t)RK_DEAD_NO_ROUTE, 5},
    {"RK_DEAD_SHUTDOWN", (int64_t)RK_DEAD_SHUTDOWN, 6},
    {"RK_EVENT_LAUNCHED", (int64_t)RK_EVENT_LAUNCHED, 1},
    {"RK_EVENT_TERMINATED", (int64_t)RK_EVENT_TERMINATED, 2},
    {"RK_EVENT_REPLY", (int64_t)RK_EVENT_REPLY, 3},
    {"RK_EVENT_READABLE", (int64_t)RK_EVENT_READABLE, 4},
    {"RK_EVENT_STATE", (int64_t)RK_EVENT_STATE, 5},
    {"RK_EVENT_DEAD_LETTER", (int64_t)RK_EVENT_DEAD_LETTER, 6},
    {"RK_WATCH_READABLE", (int64_t)RK_WATCH_READABLE, 1},
    {"RK_WATCH_STATE", (int64_t)RK_WATCH_STATE, 2},
    {"RK_TEXT_PROMETHEUS", (int64_t)RK_TEXT_PROMETHEUS, 0},
    {"RK_TEXT_JSON", (int64_t)RK_TEXT_JSON, 1},
    {"RK_LOG_ERROR", (int64_t)RK_LOG_ERROR, 1},
    {"RK_LOG_WARN", (int64_t)RK_LOG_WARN, 2},
    {"RK_LOG_INFO", (int64_t)RK_LOG_INFO, 3},
    {"RK_LOG_DEBUG", (int64_t)RK_LOG_DEBUG, 4},
    {"RK_LOG_TRACE", (int64_t)RK_LOG_TRACE, 5},
    {"RK_OK", (int64_t)RK_OK, 0},
    {"RK_ERR_INVALID_ARGUMENT", (int64_t)RK_ERR_INVALID_ARGUMENT, -1},
    {"RK_ERR_INVALID_HANDLE", (int64_t)RK_ERR_INVALID_HANDLE, -2},
    {"RK_ERR_STRUCT_SIZE", (int64_t)RK_ERR_STRUCT_SIZE, -3},
    {"RK_ERR_BUFFER_TOO_SMALL", (int64_t)RK_ERR_BUFFER_TOO_SMALL, -4},
    {"RK_ERR_NOT_FOUND", (int64_t)RK_ERR_NOT_FOUND, -5},
    {"RK_ERR_ALREADY_EXISTS", (int64_t)RK_ERR_ALREADY_EXISTS, -6},
    {"RK_ERR_LIMIT", (int64_t)RK_ERR_LIMIT, -7},
    {"RK_ERR_INVALID_STATE", (int64_t)RK_ERR_INVALID_STATE, -100},
    {"RK_ERR_TERMINATED", (int64_t)RK_ERR_TERMINATED, -101},
    {"RK_ERR_SHUTDOWN", (int64_t)RK_ERR_SHUTDOWN, -102},
    {"RK_ERR_KERNEL_FAILED", (int64_t)RK_ERR_KERNEL_FAILED, -103},
    {"RK_ERR_WOULD_DEADLOCK", (int64_t)RK_ERR_WOULD_DEADLOCK, -104},
    {"RK_ERR_FORKED", (int64_t)RK_ERR_FORKED, -105},
    {"RK_ERR_CANCELLED", (int64_t)RK_ERR_CANCELLED, -106},
    {"RK_ERR_FULL", (int64_t)RK_ERR_FULL, -200},
    {"RK_ERR_EMPTY", (int64_t)RK_ERR_EMPTY, -201},
    {"RK_ERR_TIMEOUT", (int64_t)RK_ERR_TIMEOUT, -202},
    {"RK_ERR_TOO_LARGE", (int64_t)RK_ERR_TOO_LARGE, -203},
    {"RK_ERR_NO_ROUTE", (int64_t)RK_ERR_NO_ROUTE, -204},
    {"RK_ERR_UNSUPPORTED", (int64_t)RK_ERR_UNSUPPORTED, -300},
    {"RK_ERR_BACKEND_UNAVAILABLE", (int64_t)RK_ERR_BACKEND_UNAVAILABLE, -301},
    {"RK_ERR_NO_DEVICE", (int64_t)RK_ERR_NO_DEVICE, -302},
    {"RK_ERR_COMPILE", (int64_t)RK_ERR_COMPILE, -303},
    {"RK_ERR_OUT_OF_MEMORY", (int64_t)RK_ERR_OUT_OF_MEMORY, -304},
    {"RK_ERR_DEVICE", (int64_t)RK_ERR_DEVICE, -305},
    {"RK_ERR_NOT_RESIDENT", (int64_t)RK_ERR_NOT_RESIDENT, -306},
    {"RK_ERR_PANIC", (int64_t)RK_ERR_PANIC, -400},
    {"RK_ERR_INTERNAL", (int64_t)RK_ERR_INTERNAL, -401},
};

static void lesson_13_constants_have_their_frozen_values(void) {
  size_t i;
  for (i = 0; i < sizeof constants / sizeof *constants; i++) {
    if (constants[i].value != constants[i].frozen) printf("%s\n", constants[i].name);
    CHECK(constants[i].value == constants[i].frozen);
  }
}

static void lesson_27_initialisers_and_init_functions_agree(void) {
#define AGREE(type, macro)                            \
  do {                                                \
    type##_t from_macro_ = macro, made_ = type##_init(), zero_; \
    memset(&zero_, 0, sizeof zero_);                  \
    zero_.struct_size = (uint32_t)sizeof zero_;       \
    CHECK(memcmp(&made_, &zero_, sizeof zero_) == 0); \
    CHECK(from_macro_.struct_size == sizeof zero_);   \
    CHECK(memcmp(from_macro_.reserved, zero_.reserved, sizeof zero_.reserved) == 0); \
  } while (0)
  AGREE(rk_runtime_options, RK_RUNTIME_OPTIONS_INIT);
  AGREE(rk_program, RK_PROGRAM_INIT);
  AGREE(rk_launch_options, RK_LAUNCH_OPTIONS_INIT);
  AGREE(rk_kernel_status, RK_KERNEL_STATUS_INIT);
  AGREE(rk_runtime_metrics, RK_RUNTIME_METRICS_INIT);
  AGREE(rk_kernel_metrics, RK_KERNEL_METRICS_INIT);
}

typedef void (*any_fn)(void);

/* Taking an address makes the linker find the function. */
static const struct {
  const char *name;
  any_fn function;
} functions[] = {
    {"rk_abi_version", (any_fn)rk_abi_version},
    {"rk_abort", (any_fn)rk_abort},
    {"rk_activate", (any_fn)rk_activate},
    {"rk_call", (any_fn)rk_call},
    {"rk_call_async", (any_fn)rk_call_async},
    {"rk_cancel", (any_fn)rk_cancel},
    {"rk_checkpoint", (any_fn)rk_checkpoint},
    {"rk_commit", (any_fn)rk_commit},
    {"rk_commit_batch", (any_fn)rk_commit_batch},
    {"rk_connect", (any_fn)rk_connect},
    {"rk_context_block", (any_fn)rk_context_block},
    {"rk_context_block_count", (any_fn)rk_context_block_count},
    {"rk_context_emit", (any_fn)rk_context_emit},
    {"rk_context_kernel", (any_fn)rk_context_kernel},
    {"rk_context_now", (any_fn)rk_context_now},
    {"rk_context_reply", (any_fn)rk_context_reply},
    {"rk_context_send", (any_fn)rk_context_send},
    {"rk_context_shared", (any_fn)rk_context_shared},
    {"rk_context_state", (any_fn)rk_context_state},
    {"rk_context_sync", (any_fn)rk_context_sync},
    {"rk_context_stopping", (any_fn)rk_context_stopping},
    {"rk_context_grid_sync", (any_fn)rk_context_grid_sync},
    {"rk_context_thread", (any_fn)rk_context_thread},
    {"rk_context_thread_count", (any_fn)rk_context_thread_count},
    {"rk_context_user_data", (any_fn)rk_context_user_data},
    {"rk_deactivate", (any_fn)rk_deactivate},
    {"rk_destroy", (any_fn)rk_destroy},
    {"rk_disconnect", (any_fn)rk_disconnect},
    {"rk_event_fd", (any_fn)rk_event_fd},
    {"rk_explain", (any_fn)rk_explain},
    {"rk_get", (any_fn)rk_get},
    {"rk_has_feature", (any_fn)rk_has_feature},
    {"rk_kernel_metrics", (any_fn)rk_kernel_metrics},
    {"rk_kernel_metrics_init", (any_fn)rk_kernel_metrics_init},
    {"rk_kernel_name", (any_fn)rk_kernel_name},
    {"rk_kernel_state", (any_fn)rk_kernel_state},
    {"rk_kernel_status", (any_fn)rk_kernel_status},
    {"rk_kernel_status_init", (any_fn)rk_kernel_status_init},
    {"rk_last_backend_code", (any_fn)rk_last_backend_code},
    {"rk_last_error", (any_fn)rk_last_error},
    {"rk_launch", (any_fn)rk_launch},
    {"rk_launch_async", (any_fn)rk_launch_async},
    {"rk_launch_options_init", (any_fn)rk_launch_options_init},
    {"rk_list", (any_fn)rk_list},
    {"rk_metrics", (any_fn)rk_metrics},
    {"rk_metrics_text", (any_fn)rk_metrics_text},
    {"rk_poll", (any_fn)rk_poll},
    {"rk_program_init", (any_fn)rk_program_init},
    {"rk_program_register", (any_fn)rk_program_register},
    {"rk_program_unregister", (any_fn)rk_program_unregister},
    {"rk_receive", (any_fn)rk_receive},
    {"rk_receive_batch", (any_fn)rk_receive_batch},
    {"rk_receive_dead_letter", (any_fn)rk_receive_dead_letter},
    {"rk_release", (any_fn)rk_release},
    {"rk_release_batch", (any_fn)rk_release_batch},
    {"rk_reserve", (any_fn)rk_reserve},
    {"rk_reserve_batch", (any_fn)rk_reserve_batch},
    {"rk_restore", (any_fn)rk_restore},
    {"rk_runtime_backend", (any_fn)rk_runtime_backend},
    {"rk_runtime_create", (any_fn)rk_runtime_create},
    {"rk_runtime_destroy", (any_fn)rk_runtime_destroy},
    {"rk_runtime_is_backend_available", (any_fn)rk_runtime_is_backend_available},
    {"rk_runtime_metrics_init", (any_fn)rk_runtime_metrics_init},
    {"rk_runtime_options_init", (any_fn)rk_runtime_options_init},
    {"rk_runtime_shutdown", (any_fn)rk_runtime_shutdown},
    {"rk_send", (any_fn)rk_send},
    {"rk_send_batch", (any_fn)rk_send_batch},
    {"rk_set_logger", (any_fn)rk_set_logger},
    {"rk_status_name", (any_fn)rk_status_name},
    {"rk_status_text", (any_fn)rk_status_text},
    {"rk_terminate", (any_fn)rk_terminate},
    {"rk_terminate_async", (any_fn)rk_terminate_async},
    {"rk_trace_start", (any_fn)rk_trace_start},
    {"rk_trace_stop", (any_fn)rk_trace_stop},
    {"rk_version", (any_fn)rk_version},
    {"rk_version_string", (any_fn)rk_version_string},
    {"rk_wait", (any_fn)rk_wait},
    {"rk_watch", (any_fn)rk_watch},
};

static void lesson_27_every_function_is_there(void) {
  size_t i;
  for (i = 0; i < sizeof functions / sizeof *functions; i++) CHECK(functions[i].function != NULL);
}

static void versions_and_names_have_words(void) {
  char version[32];
  uint32_t number = rk_version();
  size_t i;
  snprintf(version, sizeof version, "%u.%u.%u", (unsigned)(number >> 16), (unsigned)(number >> 8 & 255),
           (unsigned)(number & 255));
  CHECK(strcmp(version, rk_version_string()) == 0);
  CHECK(rk_abi_version() == number >> 16);
  CHECK(!rk_has_feature("no such feature") && rk_has_feature("cpu"));
  for (i = 0; i < sizeof constants / sizeof *constants; i++) {
    const char *name = constants[i].name;
    if (strncmp(name, "RK_ERR_", 7) != 0 && strcmp(name, "RK_OK") != 0) continue;
    CHECK(strcmp(rk_status_name((rk_status_t)constants[i].value), name) == 0);
    CHECK(strlen(rk_status_text((rk_status_t)constants[i].value)) > 10);
  }
  CHECK(rk_status_name(12345) != NULL && rk_status_name(-12345) != NULL && rk_status_text(INT32_MIN) != NULL);
  CHECK(rk_last_backend_code() == 0);
}

int main(int argc, char **argv) {
  check_unused();
  RUN(lesson_13_constants_have_their_frozen_values);
  RUN(lesson_27_initialisers_and_init_functions_agree);
  RUN(lesson_27_every_function_is_there);
  RUN(versions_and_names_have_words);
  return check_result();
}
